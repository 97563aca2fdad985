"""Finds the processes of one command in /proc, also those that have left its process group.

A process belongs to a command if it is in the command's group, descends from one that does, or has the mark of the run
in its environment. So a daemon is found although it started a session of its own and its parents are gone, unless it
has also cleared its environment. Without /proc (not Linux), only the group counts, and nothing is found here.

The id of a group stays taken while its first process has not been reaped, or any other is in it; then the system gives
it to somebody else's process. So once the first process is gone, the group counts only if one of its members is known
to belong to the command.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from distributor.agent.process_table import Process, all_pids, latest_pid, running, start_of, variables_of

RUN_MARKER: Final = "_DISTRIBUTOR_RUN"
"""Environment variable by which the processes of one run are found. Random, because agents of several servers on one
host may know different commands by the same id, and because an earlier run of a command may have left a daemon."""

_BOOT_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class ProcessTree:
    """The processes of one command, whose first process `root` leads their group. Remembers those it has found.

    So one whose parents have ended since is found again. Thread-safe.
    """

    def __init__(self, root: int, environment: Mapping[str, str]) -> None:
        """`environment` is that of the first process; without RUN_MARKER in it, only groups and parents count.

        Create it before `root` is reaped.
        """
        self.root_started = start_of(root)
        """When `root` started, in clock ticks since the boot; None without /proc."""
        self._root = root
        self._mark = marked(environment[RUN_MARKER]) if RUN_MARKER in environment else b""
        self._known: dict[int, int] = {}
        self._root_ended = -1
        self._lock = threading.Lock()

    @property
    def root_unreaped(self) -> bool:
        """Whether the first process runs, or is a zombie, so that its id is not another's."""
        return self.root_started is not None and start_of(self._root) == self.root_started

    def root_ended(self) -> None:
        """Note that `root` was reaped a moment ago.

        What is in its group and is no younger than this is of the command: the system gives out ids in turn, so it
        cannot have reused the id already.
        """
        self._root_ended = int(time.clock_gettime(_BOOT_CLOCK) * os.sysconf("SC_CLK_TCK"))

    def find(self) -> tuple[Process, ...]:
        """Those that run now. Reads a few files for each process of the host that is younger than `root`."""
        with self._lock:
            candidates = {process.pid: process for process in running(self._younger())}
            children: dict[int, list[Process]] = {}
            for process in candidates.values():
                children.setdefault(process.parent, []).append(process)
            found: dict[int, Process] = {}
            pending = self._certain(candidates.values())
            while pending:
                process = pending.pop()
                if process.pid not in found:
                    found[process.pid] = process
                    pending += children.get(process.pid, [])
            self._known = {process.pid: process.started for process in found.values()}
            return tuple(found.values())

    def anything_younger(self) -> bool:
        """Whether any process was started after `root`: if not, it has no descendants. One short read."""
        return latest_pid() != self._root

    def _younger(self) -> Iterator[int]:
        """The ids of processes that may descend from `root`: ids grow until they begin anew."""
        own, latest = os.getpid(), latest_pid()
        begun_anew = latest is None or latest < self._root
        for pid in all_pids():
            if pid != own and (pid >= self._root or begun_anew or pid in self._known):
                yield pid

    def _certain(self, processes: Iterable[Process]) -> list[Process]:
        """Those that belong to the command whatever their parents are."""
        unreaped = self.root_unreaped
        members = [process for process in processes if process.group == self._root]
        proven = unreaped or any(self._is_mine(process) or process.started <= self._root_ended for process in members)
        certain = members if proven else []
        for process in processes:
            if process.group != self._root and ((unreaped and process.parent == self._root) or self._is_mine(process)):
                certain.append(process)
        return certain

    def _is_mine(self, process: Process) -> bool:
        if self._known.get(process.pid) == process.started:
            return True
        return bool(self._mark) and self._mark in variables_of(process.pid)


def marked(run: str) -> bytes:
    """The entry in the environment of the processes of one run."""
    return f"{RUN_MARKER}={run}".encode()
