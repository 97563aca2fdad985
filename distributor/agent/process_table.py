"""Reads from /proc which processes run on this host. Without /proc, as on macOS, it finds none."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final, NamedTuple

MAX_NAME_BYTES: Final = 128
STAT_BYTES: Final = 4_096
"""More than the longest `stat` file has."""

ROOT = "/proc"


class Process(NamedTuple):
    """A running process. `started` tells it from a later one with the same `pid`: clock ticks since the boot."""

    pid: int
    started: int
    parent: int
    group: int

    @property
    def name(self) -> str:
        """Its command line, or its name if it has none, cut to MAX_NAME_BYTES; empty if it has ended."""
        try:
            line = _read(self.pid, "cmdline").replace(b"\0", b" ").strip() or _read(self.pid, "comm").strip()
        except OSError:
            return ""
        return line[:MAX_NAME_BYTES].decode(errors="ignore")


def readable() -> bool:
    """Whether this host has a /proc that lists processes."""
    return os.path.exists(f"{ROOT}/self/stat")


def all_pids() -> list[int]:
    """The ids of all processes of the host; empty without /proc."""
    try:
        return [int(name) for name in os.listdir(ROOT) if name.isdigit()]
    except OSError:
        return []


def running(pids: Iterable[int]) -> Iterator[Process]:
    """Those of `pids` that run; zombies do not. Reads one file each, about 10 µs."""
    for pid in pids:
        with suppress(OSError, ValueError):
            state, process = _stat(pid)
            if state not in b"ZX":
                yield process


def alive(processes: Iterable[Process]) -> Iterator[Process]:
    """Those of `processes` that still run: a later process with the id of one that has ended is not taken for it."""
    for process in processes:
        if any(found.started == process.started for found in running([process.pid])):
            yield process


def group_members(group: int) -> list[Process]:
    """The running processes of a process group. Reads a file of every process of the host: call it in a thread."""
    return [process for process in running(all_pids()) if process.group == group]


def start_of(pid: int) -> int | None:
    """When a process started, in clock ticks since the boot, also of a zombie; None if there is no such process."""
    try:
        return _stat(pid)[1].started
    except (OSError, ValueError):
        return None


def variables_of(pid: int) -> frozenset[bytes]:
    """The environment that a process was started with, as NAME=VALUE; empty if it has ended or is another user's."""
    try:
        return frozenset(_read(pid, "environ").split(b"\0"))
    except OSError:
        return frozenset()


def latest_pid() -> int | None:
    """The id that the system gave out last; None without /proc."""
    try:
        with open(f"{ROOT}/loadavg", "rb") as file:
            return int(file.read().split()[4])
    except (OSError, IndexError, ValueError):
        return None


def _stat(pid: int) -> tuple[bytes, Process]:
    """The state of a process, and the process. Raises OSError or ValueError if there is none."""
    file = os.open(f"{ROOT}/{pid}/stat", os.O_RDONLY)
    try:
        stat = os.read(file, STAT_BYTES)
    finally:
        os.close(file)
    # The name in parentheses may contain anything, so parse after it.
    state, parent, group, *rest = stat[stat.rindex(b")") + 2 :].split(b" ", 20)
    return state, Process(pid, int(rest[16]), int(parent), int(group))


def _read(pid: int, name: str) -> bytes:
    with open(f"{ROOT}/{pid}/{name}", "rb") as file:
        return file.read()
