"""One deliberate fault in the source, and the test that must notice it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Edit(NamedTuple):
    """Replaces `old`, which must be in `path` exactly once, by `new`."""

    path: str
    old: str
    new: str


class Mutation(NamedTuple):
    """A fault by its name, the edits that make it, and the test that fails with it: `path::name`."""

    name: str
    edits: tuple[Edit, ...]
    test: str


class DoesNotApply(Exception):
    """The source has changed; the argument names the edit."""


def apply(mutation: Mutation, root: Path) -> None:
    """Make the edits below `root`. Raises DoesNotApply, without having changed anything, if one does not fit."""
    changed: dict[Path, str] = {}
    for edit in mutation.edits:
        path = root / edit.path
        source = changed.get(path) or (path.read_text(encoding="utf-8") if path.exists() else "")
        found = source.count(edit.old)
        if found != 1:
            raise DoesNotApply(f"{mutation.name}: {edit.path} has the text to replace {found} times: {edit.old!r}")
        changed[path] = source.replace(edit.old, edit.new)
    for path, source in changed.items():
        path.write_text(source, encoding="utf-8")
