"""Checks the messages of commits that are not on main yet: imperative subject, and a body that says why.

A clone of main itself has no such commits; it checks those since the last tag. Merges and what is older than this
rule are left alone.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent
MOST: Final = 72
RULE_SINCE: Final = 1_796_000_400
"""Unix time, 2026-11-30 01:00 UTC: commits before it follow other habits."""

BASES: Final = ("origin/main", "main")
VERBS_LIKE_FORMS: Final = frozenset(
    "bring bleed embed exceed feed need ping proceed read seed shed shred speed spread string succeed swing wed".split()
)
NO_VERBS: Final = frozenset(
    "a an all each every it no that the there these this those what when where which who".split()
)
TRAILER: Final = re.compile(r"^[A-Z][A-Za-z-]+: \S")


class Commit(NamedTuple):
    """A commit without its content. `time` is the Unix time of the commit."""

    sha: str
    time: int
    message: str

    @property
    def subject(self) -> str:
        return self.message.partition("\n")[0]


def main() -> int:
    """Exit code 0 when all messages are right; else each fault is named on stderr."""
    if _git("rev-parse", "--verify", "--quiet", "HEAD") is None:
        return 0
    faulty = False
    for commit in new_commits():
        for fault in faults(commit.message):
            faulty = True
            print(f'commit {commit.sha[:9]} "{commit.subject}": {fault}', file=sys.stderr)
    return int(faulty)


def new_commits() -> list[Commit]:
    """The commits of this branch alone, the newest first."""
    base = _base()
    log = _git("log", "--no-merges", "-z", "--format=%H %ct %B", "HEAD", *([f"^{base}"] if base else [])) or ""
    commits = [Commit(sha, int(time), text.strip()) for sha, time, text in _fields(log)]
    return [commit for commit in commits if commit.time >= RULE_SINCE]


def faults(message: str) -> Iterator[str]:
    """What is wrong with a message."""
    subject, *rest = message.split("\n")
    if len(subject) > MOST:
        yield f"the subject has {len(subject)} characters, the limit is {MOST}"
    if subject.startswith(("fixup!", "squash!", "amend!")):
        yield "squash it into the commit that it mends"
    elif not _imperative(subject):
        yield 'begin the subject with a verb in the imperative and a capital: "Add", not "Added" or "The"'
    if subject.endswith("."):
        yield "end the subject without a full stop"
    if rest and rest[0].strip():
        yield "leave the second line blank"
    if not any(line.strip() and not TRAILER.match(line) for line in rest):
        yield "say in a body why the change was made"


def _imperative(subject: str) -> bool:
    word = re.split(r"[^\w'-]", subject, maxsplit=1)[0]
    form = word.lower()
    if not word[:1].isupper() or form in NO_VERBS:
        return False
    return form in VERBS_LIKE_FORMS or not form.endswith(("ed", "ing"))


def _base() -> str | None:
    """What the commits of this branch are counted from; None where there is nothing of the kind."""
    for name in BASES:
        known = _git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}") is not None
        if known and _git("merge-base", "--is-ancestor", "HEAD", name) is None:
            return name
    return (_git("describe", "--tags", "--abbrev=0", "HEAD^") or "").strip() or None


def _fields(log: str) -> Iterator[tuple[str, str, str]]:
    for record in log.split("\0"):
        if record.strip():
            sha, time, text = record.split(" ", 2)
            yield sha, time, text


def _git(*arguments: str) -> str | None:
    """What git prints; None where it fails, or is not there."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


if __name__ == "__main__":
    sys.exit(main())
