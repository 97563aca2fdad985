"""The memory allocator that replaces glibc's in the bundled Valkey server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

DISTRIBUTION: Final = "cmeel-mimalloc"
LIBRARY: Final = "libmimalloc.so"


@dataclass(frozen=True)
class Allocator:
    """A shared library that replaces malloc in a program that loads it before all others."""

    name: str
    """With its version, in the form in which Valkey names those it is built with: `jemalloc-5.3.0`."""
    library: Path

    @contextmanager
    def preloaded(self) -> Iterator[tuple[int, dict[str, str]]]:
        """A descriptor for a child to inherit, and the environment by which it loads the library through it.

        Raises OSError if the library cannot be opened. A path would not do: in LD_PRELOAD, spaces and colons separate.
        """
        descriptor = os.open(self.library, os.O_RDONLY)
        try:
            yield descriptor, {"LD_PRELOAD": f"/proc/self/fd/{descriptor}"}
        finally:
            os.close(descriptor)

    def is_loaded_by(self, pid: int) -> bool:
        """Return whether a process has loaded the library. The loader ignores one that is not for this machine."""
        try:
            maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return False
        return any(line.endswith(f" {self.library}") for line in maps.splitlines())


def find_allocator() -> Allocator | None:
    """The allocator of the `embedded` extra, or None if it is not installed."""
    try:
        distribution = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return None
    for file in distribution.files or ():
        if file.name == LIBRARY:
            return Allocator(f"mimalloc-{distribution.version}", Path(str(file.locate())).resolve())
    return None
