"""The limit of open files of this process: each agent, caller and dashboard takes one."""

from __future__ import annotations

import contextlib
import resource
from typing import Final

ENOUGH_OPEN_FILES: Final = 1_048_576
"""Requested where the system sets no limit: some then refuse to permit an unlimited number."""

_replaced: list[int] = []
"""The soft limit before it was raised, if it was: like the limit, of the whole process."""


def raise_open_files_limit() -> int:
    """Raise the soft limit of open files to the hard limit; return the soft limit that now holds.

    Many systems start programs with a soft limit of 1,024, for the sake of programs that use `select`, and a far higher
    hard limit. Never lowers a limit and never fails. Child processes inherit the limit: start those that may use
    `select`, or close every possible descriptor, with `original_open_files_limit`.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH_OPEN_FILES if hard == resource.RLIM_INFINITY else hard
    if 0 <= soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            _replaced.append(soft)
    return open_files_limit()


def original_open_files_limit() -> int | None:
    """The soft limit that this process was started with; None if it still holds."""
    return _replaced[0] if _replaced else None


def open_files_limit() -> int:
    """How many files this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft >= 0 else ENOUGH_OPEN_FILES
