"""Finds the processes of one command in /proc, also those that have left its process group.

A process belongs to a command if it is in the command's group, descends from one that does, or has the mark of the run
in its environment. So a daemon is found although it started a session of its own and its parents are gone, unless it
has also cleared its environment. Without /proc (not Linux), only the group counts, and nothing is found here.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

RUN_MARKER: Final = "_DISTRIBUTOR_RUN"
"""Environment variable by which the processes of one run are found. Random, because agents of several servers on one
host may know different commands by the same id."""

MAX_NAME_BYTES: Final = 128
_PROC: Final = Path("/proc")


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
            line = (_PROC / str(self.pid) / "cmdline").read_bytes().replace(b"\0", b" ").strip()
            line = line or (_PROC / str(self.pid) / "comm").read_bytes().strip()
        except OSError:
            return ""
        return line[:MAX_NAME_BYTES].decode(errors="ignore")


class ProcessTree:
    """The processes of one command, whose first process `root` leads their group. Remembers those it has found.

    So one whose parents have ended since is found again. Thread-safe if only one call runs at a time.
    """

    def __init__(self, root: int, environment: Mapping[str, str]) -> None:
        """`environment` is that of the first process; without RUN_MARKER in it, only groups and parents count."""
        self._root = root
        self._mark = f"{RUN_MARKER}={environment[RUN_MARKER]}".encode() if RUN_MARKER in environment else b""
        self._known: dict[int, int] = {}
        self.latest: tuple[Process, ...] = ()
        """What the latest `find` found."""

    def find(self) -> tuple[Process, ...]:
        """Those that run now. Reads a few files for each process of the host that is younger than `root`."""
        candidates = {process.pid: process for process in running(self._younger())}
        children: dict[int, list[Process]] = {}
        for process in candidates.values():
            children.setdefault(process.parent, []).append(process)
        found: dict[int, Process] = {}
        pending = [process for process in candidates.values() if self._is_mine(process)]
        while pending:
            process = pending.pop()
            if process.pid not in found:
                found[process.pid] = process
                pending += children.get(process.pid, [])
        self._known = {process.pid: process.started for process in found.values()}
        self.latest = tuple(found.values())
        return self.latest

    def anything_younger(self) -> bool:
        """Whether any process was started after `root`: if not, it has no descendants. One short read."""
        try:
            latest = int((_PROC / "loadavg").read_text().split()[4])
        except (OSError, IndexError, ValueError):
            return True
        return latest != self._root

    def _younger(self) -> Iterator[int]:
        """The ids of processes that may descend from `root`: ids grow until they begin anew."""
        own, begun_anew = os.getpid(), self._ids_began_anew()
        for pid in all_pids():
            if pid != own and (pid >= self._root or begun_anew or pid in self._known):
                yield pid

    def _ids_began_anew(self) -> bool:
        try:
            return int((_PROC / "loadavg").read_text().split()[4]) < self._root
        except (OSError, IndexError, ValueError):
            return True

    def _is_mine(self, process: Process) -> bool:
        if process.group == self._root or process.parent == self._root:
            return True
        return self._known.get(process.pid) == process.started or self._is_marked(process.pid)

    def _is_marked(self, pid: int) -> bool:
        return bool(self._mark) and self._mark in variables_of(pid)


def variables_of(pid: int) -> frozenset[bytes]:
    """The environment that a process was started with, as NAME=VALUE; empty if it has ended or is another user's."""
    try:
        return frozenset((_PROC / str(pid) / "environ").read_bytes().split(b"\0"))
    except OSError:
        return frozenset()


def running(pids: Iterable[int]) -> Iterator[Process]:
    """Those of `pids` that run; zombies do not."""
    for pid in pids:
        with suppress(OSError, ValueError):
            stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
            # The name in parentheses may contain anything, so parse after it.
            state, parent, group, *rest = stat[stat.rindex(")") + 2 :].split(" ", 20)
            if state not in "ZX":
                yield Process(pid, int(rest[16]), int(parent), int(group))


def send_signal(process: Process, number: signal.Signals) -> None:
    """Send a signal to exactly this process; do nothing if it has ended or may not be signalled."""
    with suppress(OSError):
        handle = os.pidfd_open(process.pid)
        try:
            # The id may have been given to another process before it was opened.
            if any(found.started == process.started for found in running([process.pid])):
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def all_pids() -> list[int]:
    """The ids of all processes of the host; empty without /proc."""
    try:
        return [int(name) for name in os.listdir(_PROC) if name.isdigit()]
    except OSError:
        return []
