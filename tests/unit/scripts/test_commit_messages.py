from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from scripts import commit_messages as script
from scripts.commit_messages import MAX_SUBJECT, RULE_SINCE, faults, main

GOOD = "Add a check of commit messages\n\nNobody kept to the rule without one."
BAD = "Added things."


@pytest.mark.parametrize(
    ("message", "part"),
    [
        (f"Add {'x' * (MAX_SUBJECT - 3)}\n\nWhy.", f"has {MAX_SUBJECT + 1} characters"),
        ("Added a check\n\nWhy.", "imperative"),
        ("Adding a check\n\nWhy.", "imperative"),
        ("Adds a check\n\nWhy.", "imperative"),
        ("add a check\n\nWhy.", "imperative"),
        ("The check of messages\n\nWhy.", "imperative"),
        ("Add a check.\n\nWhy.", "full stop"),
        ("Add a check\nWhy.", "second line blank"),
        ("Add a check", "body"),
        ("Add a check\n\nSigned-off-by: A <a@example.org>", "body"),
        ("fixup! Add a check\n\nWhy.", "squash"),
    ],
)
def test_a_fault_is_named(message: str, part: str) -> None:
    (fault,) = faults(message)
    assert part in fault


@pytest.mark.parametrize(
    "message",
    [
        GOOD,
        f"Add {'x' * (MAX_SUBJECT - 4)}\n\nWhy.",
        "Embed Valkey\n\nWhy.\n\nCo-authored-by: A <a@example.org>",
        "Spread load\n\nWhy.",
        "Process messages in order\n\nWhy.",
        "Focus the form\n\nWhy.",
        'Revert "Add a check"\n\nThis reverts commit 0.',
    ],
)
def test_a_good_message_has_none(message: str) -> None:
    assert not list(faults(message))


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty repository with a branch main, which the script looks at."""
    folder = tmp_path / "repository"
    git(tmp_path, "init", "--quiet", "--initial-branch=main", str(folder))
    monkeypatch.setattr(script, "ROOT", folder)
    return folder


def git(folder: Path, *arguments: str, time: int = RULE_SINCE) -> None:
    names = {f"GIT_{role}_{field}": "a@b" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")}
    dates = {f"GIT_{role}_DATE": f"@{time} +0000" for role in ("AUTHOR", "COMMITTER")}
    alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    subprocess.run(["git", *arguments], cwd=folder, check=True, env={**os.environ, **names, **dates, **alone})


def commit(folder: Path, message: str, time: int = RULE_SINCE) -> None:
    git(folder, "commit", "--quiet", "--allow-empty", "--message", message, time=time)


def test_what_is_on_main_already_is_left_alone(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commit(repository, BAD)
    git(repository, "switch", "--quiet", "--create", "branch")
    commit(repository, GOOD)
    assert main() == 0

    commit(repository, BAD)
    assert main() == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 3
    assert all('"Added things.": ' in line for line in told)


def test_a_detached_clone_of_main_checks_what_came_since_the_last_tag(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(repository, BAD)
    git(repository, "tag", "v1")
    commit(repository, GOOD)
    git(tmp_path, "clone", "--quiet", str(repository), "clone")
    git(tmp_path / "clone", "switch", "--quiet", "--detach")
    monkeypatch.setattr(script, "ROOT", tmp_path / "clone")
    assert main() == 0

    commit(repository, BAD)
    git(tmp_path / "clone", "pull", "--quiet", "origin", "main")
    assert main() == 1


def test_without_a_tag_what_is_older_than_the_rule_passes(repository: Path) -> None:
    assert main() == 0, "there is no commit at all"
    commit(repository, BAD, time=RULE_SINCE - 1)
    assert main() == 0
    commit(repository, GOOD)
    assert main() == 0
    commit(repository, BAD)
    assert main() == 1


def test_a_merge_may_say_what_git_says(repository: Path) -> None:
    commit(repository, GOOD)
    git(repository, "switch", "--quiet", "--create", "branch")
    commit(repository, GOOD)
    git(repository, "switch", "--quiet", "main")
    git(repository, "merge", "--quiet", "--no-ff", "--message", "merged branch.", "branch")
    assert main() == 0


def test_outside_of_a_repository_there_is_nothing_to_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert main() == 0
