"""Fsyncs the append-only files of a Valkey on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class _Content(NamedTuple):
    """Identifies the content of a file that only grows."""

    size: int
    modified_ns: int


class Unsynced(NamedTuple):
    """A file that has changed since it was flushed. `descriptor` is to be flushed and closed by its owner."""

    name: str
    content: _Content
    descriptor: int


class AppendOnlyFiles:
    """The incremental append-only files in a folder. Valkey fsyncs base files and manifests itself, before using them.

    Flushing any descriptor of a file flushes all that was written to it, by whatever process. Valkey must write before
    it replies (`appendfsync no`): then a flush of all that has `changed` after a reply covers what it acknowledges. A
    rewrite begins a new file before it uses it, and deletes the old one after all of it is in the new base file.

    After a failed fsync, the kernel forgets which data it could not write, and the next fsync would succeed falsely.
    So a file that failed once fails each `changed` until a rewrite has replaced it.

    `flush` may run in another thread than the rest, one at a time. It makes only one blocking call, so it competes with
    a busy event loop for the interpreter lock only once.
    """

    def __init__(self, folder: Path, fdatasync: Callable[[int], None] = os.fdatasync) -> None:
        """`folder` need not exist yet."""
        self._folder = folder
        self._fdatasync = fdatasync
        self._open: dict[str, int] = {}
        self._synced: dict[str, _Content] = {}
        self._failures: dict[str, OSError] = {}

    def changed(self) -> list[Unsynced]:
        """The files to flush, after which all that was written before the call is on disk. Does not wait for the disk.

        Raises OSError if something that was written before may not be on disk.
        """
        self._look()
        for error in self._failures.values():
            raise error
        found = []
        for name, descriptor in self._open.items():
            status = os.fstat(descriptor)
            content = _Content(status.st_size, status.st_mtime_ns)
            if self._synced.get(name) != content:
                found.append(Unsynced(name, content, os.dup(descriptor)))
        return found

    def flush(self, file: Unsynced) -> None:
        """Return once the file is on disk as it was found. Raises OSError, also if an earlier flush of it failed."""
        if file.name in self._failures:
            raise self._failures[file.name]
        try:
            self._fdatasync(file.descriptor)
        except OSError as error:
            self._failures[file.name] = error
            raise
        self._synced[file.name] = file.content

    def close(self) -> None:
        """Close all files. They are opened again when needed."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()
        self._synced.clear()

    def _look(self) -> None:
        """Open the files that are new, and close those that are gone."""
        present = {entry.name for entry in os.scandir(self._folder) if entry.name.endswith(".incr.aof")}
        for name in self._open.keys() - present:
            os.close(self._open.pop(name))
            self._synced.pop(name, None)
        for name in self._failures.keys() - present:
            del self._failures[name]
        for name in sorted(present - self._open.keys()):
            try:
                self._open[name] = os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                # Deleted since, so all of it is in a base file.
                continue
