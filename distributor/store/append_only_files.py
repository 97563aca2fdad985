"""Writes the append-only files of a Valkey on this machine through to the disk."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class _Content(NamedTuple):
    """Identifies the content of a file that only grows."""

    size: int
    modified_ns: int


class AppendOnlyFiles:
    """The incremental append-only files in a folder. Valkey fsyncs base files and manifests itself, before using them.

    Flushing any descriptor of a file flushes all that was written to it, by whatever process. Valkey must write before
    it replies (`appendfsync no`): then a sync that begins after a reply covers what the reply acknowledges. A rewrite
    begins a new file before it uses it, and deletes the old one after all of it is in the new base file.

    After a failed fsync, the kernel forgets which data it could not write, and the next one would succeed for nothing.
    So a file that failed once fails each sync until a rewrite has replaced it. Safe for concurrent use by threads.
    """

    def __init__(self, folder: Path, fdatasync: Callable[[int], None] = os.fdatasync) -> None:
        """`folder` need not exist yet."""
        self._folder = folder
        self._fdatasync = fdatasync
        self._lock = threading.Lock()
        self._open: dict[str, int] = {}
        self._synced: dict[str, _Content] = {}
        self._failures: dict[str, OSError] = {}

    def sync(self) -> None:
        """Return once all that was written before the call is on disk. Raises OSError if some of it may not be."""
        with self._lock:
            self._look()
            for name, descriptor in self._open.items():
                self._sync_one(name, descriptor)

    def close(self) -> None:
        """Close all files. They are opened again when needed."""
        with self._lock:
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

    def _sync_one(self, name: str, descriptor: int) -> None:
        if name in self._failures:
            raise self._failures[name]
        found = os.fstat(descriptor)
        content = _Content(found.st_size, found.st_mtime_ns)
        if self._synced.get(name) == content:
            return
        try:
            self._fdatasync(descriptor)
        except OSError as error:
            self._failures[name] = error
            raise
        self._synced[name] = content
