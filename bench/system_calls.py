"""Counts the system calls of a process with `perf`, where it is installed and permitted."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from types import TracebackType
from typing import Self

from distributor.processes.die_with_parent import tied_to_parent

_ALL = "raw_syscalls:sys_enter"
_SOME = ("epoll_wait", "epoll_pwait", "futex", "read", "write", "sendmsg", "recvmsg", "sendto", "recvfrom")
_EVENTS = ",".join([_ALL, *(f"syscalls:sys_enter_{name}" for name in _SOME)])


class SystemCalls:
    """Counts inside this async context manager; afterwards `counts` has the calls by name, and all of them as "all".

    `counts` stays empty if perf is missing, or the kernel permits no tracepoints: usually only root may use them.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._perf: Process | None = None
        self.counts: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        perf = shutil.which("perf")
        if perf is None:
            return self
        ours, theirs = socket.socketpair()
        reader, self._control = await asyncio.open_connection(sock=ours)
        with theirs:
            fd = theirs.fileno()
            options = ("stat", "-x,", "-e", _EVENTS, "-p", str(self._pid), "--delay=-1", f"--control=fd:{fd},{fd}")
            self._perf = await asyncio.create_subprocess_exec(
                *tied_to_parent(perf, *options),
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=PIPE,
                env={**os.environ, "LC_ALL": "C"},
                pass_fds=(fd,),
                start_new_session=True,
            )
        self._control.write(b"enable\n")
        # The acknowledgement, unless perf has ended instead.
        with suppress(ConnectionError):
            await reader.readline()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._perf is None:
            return
        if self._perf.returncode is None:
            self._perf.send_signal(signal.SIGINT)
        _, printed = await self._perf.communicate()
        self._control.close()
        self.counts = counts(printed.decode(errors="replace"))


def counts(printed: str) -> dict[str, int]:
    """Return the counts that perf printed as comma-separated values, by system call."""
    found = {}
    for line in printed.splitlines():
        value, _, rest = line.partition(",")
        if value.isdecimal():
            event = rest.split(",")[1]
            found["all" if event == _ALL else event.removeprefix("syscalls:sys_enter_")] = int(value)
    return found
