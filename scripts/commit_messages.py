"""Checks the messages of commits that are not on main yet: an imperative subject, and a body that says why.

On main itself, checks the commits since the last tag. Ignores merges and commits older than this rule.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent
MAX_SUBJECT: Final = 72
RULE_SINCE: Final = 1_796_000_400
"""Unix time, 2026-11-30 01:00 UTC. Earlier commits are not checked."""

BASES: Final = ("origin/main", "main")
IMPERATIVES_LIKE_FORMS: Final = frozenset(
    "bring bleed embed exceed feed need ping proceed read seed shed shred speed spread string succeed swing wed".split()
)
NOT_VERBS: Final = frozenset(
    "a an all each every it no that the there these this those what when where which who".split()
)
TRAILER: Final = re.compile(r"^[A-Z][A-Za-z-]+: \S")


class Commit(NamedTuple):
    """A commit message. `time` is the Unix time of the commit."""

    sha: str
    time: int
    message: str

    @property
    def subject(self) -> str:
        return self.message.partition("\n")[0]


def main() -> int:
    """Return 0 if all messages are valid; else print each fault to stderr and return 1."""
    if _git("rev-parse", "--verify", "--quiet", "HEAD") is None:
        return 0
    faulty = False
    for commit in new_commits():
        for fault in faults(commit.message):
            faulty = True
            print(f'commit {commit.sha[:9]} "{commit.subject}": {fault}', file=sys.stderr)
    return int(faulty)


def new_commits() -> list[Commit]:
    """Return the commits of this branch only, newest first."""
    base = _base()
    log = _git("log", "--no-merges", "-z", "--format=%H %ct %B", "HEAD", *([f"^{base}"] if base else [])) or ""
    commits = [Commit(sha, int(time), text.strip()) for sha, time, text in _fields(log)]
    return [commit for commit in commits if commit.time >= RULE_SINCE]


def faults(message: str) -> Iterator[str]:
    """Yield the faults of a message."""
    subject, *rest = message.split("\n")
    if len(subject) > MAX_SUBJECT:
        yield f"the subject has {len(subject)} characters, the limit is {MAX_SUBJECT}"
    if subject.startswith(("fixup!", "squash!", "amend!")):
        yield "squash it into the commit that it fixes"
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
    if not word[:1].isupper() or form in NOT_VERBS:
        return False
    third_person = form.endswith("s") and not form.endswith(("ss", "us", "as"))
    return form in IMPERATIVES_LIKE_FORMS or not (third_person or form.endswith(("ed", "ing")))


def _base() -> str | None:
    """Return the revision that this branch starts from; None if there is none."""
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
    """Return the output of git; None if it fails or is not installed."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


if __name__ == "__main__":
    sys.exit(main())
