"""The allow-list of programs for EXEC."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from typing import NamedTuple

from distributor.errors import ConfigurationError


class ProgramIdentity(NamedTuple):
    """The identity of a program: its file, and the name it is run by.

    A multi-call binary (busybox, coreutils) acts according to its name, so each name is a separate program.
    """

    file: str
    name: str


class AllowedPrograms:
    """An allow-list; empty allows everything. Looks up names on PATH only when it is created.

    Raises ConfigurationError if a program does not exist on this host.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._allowed = frozenset(_on_this_host(name) for name in names)

    def __bool__(self) -> bool:
        return bool(self._allowed)

    def permits(self, path: str) -> bool:
        """Whether the program at `path` may be started under the name in `path`."""
        return not self._allowed or _identity(path) in self._allowed


def _identity(path: str) -> ProgramIdentity:
    return ProgramIdentity(os.path.realpath(path), os.path.basename(path))


def _on_this_host(name: str) -> ProgramIdentity:
    found = shutil.which(name)
    if found is None:
        raise ConfigurationError(f"the allowed program {name!r} is not on this host")
    return _identity(found)
