from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

import distributor
from scripts import record_store as script
from tests.support import store_recording
from tests.support.store_recording import Call, Recording

RECORDING = Recording("-- Lua", {"kinds": {"queued": {}}}, {"claim": [Call(["FCALL", "claim_<library>"], 1)]}, [])


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository without tags, and a scenario that is recorded at once."""

    async def recorded() -> Recording:
        return RECORDING

    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    commit = ["-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "--allow-empty", "-m", "One"]
    subprocess.run(["git", "-C", str(tmp_path), *commit], check=True)
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.setattr(store_recording, "FOLDER", tmp_path / "recorded")
    monkeypatch.setattr(distributor, "__version__", "7.0.1")
    monkeypatch.setattr(script, "_recorded", recorded)
    monkeypatch.setattr(script, "_kinds", lambda: {"queued"})
    monkeypatch.setattr(script, "_functions", lambda: {"claim"})
    return tmp_path


def test_it_writes_what_is_read_back(root: Path) -> None:
    assert script.main() == 0
    assert Recording.read(root / "recorded" / "7.0.1") == RECORDING


@pytest.mark.parametrize("tag", ["7.0.1", "v7.0.1"])
def test_a_released_version_is_not_recorded_again(root: Path, tag: str, capsys: pytest.CaptureFixture[str]) -> None:
    subprocess.run(["git", "-C", str(root), "tag", tag], check=True)
    assert script.main() == 1
    assert capsys.readouterr().err == f"version 7.0.1 is released (tag {tag}): its recording must not change\n"
    assert not (root / "recorded").exists()


def test_another_released_version_does_not_matter(root: Path) -> None:
    subprocess.run(["git", "-C", str(root), "tag", "v7.0.0"], check=True)
    assert script.main() == 0


@pytest.mark.parametrize(
    ("name", "known"), [("_kinds", {"queued", "paused"}), ("_functions", {"claim", "pause"})], ids=["kind", "function"]
)
def test_the_scenario_must_reach_all(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, known: Any
) -> None:
    monkeypatch.setattr(script, name, lambda: known)
    assert script.main() == 1
    assert "does not reach: pause" in capsys.readouterr().err
    assert not (root / "recorded").exists()
