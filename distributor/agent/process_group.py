"""A program and its descendants in a session and process group of their own.

Stopping it also ends descendants that have left the group, as far as `process_tree` finds them. If the agent is killed
by SIGKILL, nothing stops the group: run the agent under a supervisor that ends its control group, as systemd does by
default.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final, NamedTuple, cast

from distributor.agent.process_output import ProcessOutput
from distributor.agent.process_signals import (
    POLL_FIRST_SECONDS,
    POLL_MOST_SECONDS,
    ended,
    off_loop_if_many,
    send_signal,
)
from distributor.agent.process_table import Process, alive, readable
from distributor.agent.process_tree import ProcessTree
from distributor.tasks import finishes
from distributor.wire.limits import MAX_SURVIVORS

KILL_AGAIN_SECONDS: Final = 1.0
ESCAPED_SECONDS: Final = 0.5
"""How long a pipe may stay open and silent after the group has ended; only an escaped descendant keeps it open."""


class Program(NamedTuple):
    """A program to start. `executable` is an absolute path; `stdin` None means /dev/null.

    RUN_MARKER of `process_tree` in `env` helps to find descendants that leave the group.
    """

    executable: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str | None = None
    stdin: bytes | None = None


class ProcessGroup(asyncio.SubprocessProtocol):
    """One started program. Call `close()` when the group has ended."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """`environment` is that of the program."""
        self.output = ProcessOutput()
        self._environment = environment
        self._tree: ProcessTree | None = None
        self._targets: tuple[Process, ...] = ()
        """What is being stopped, or has outlived the program, as last found."""
        self._group_ended = False
        """Whether the id of the group was found to be free: from then on it is somebody else's."""
        self._transport: asyncio.SubprocessTransport | None = None
        self._exited = asyncio.Event()
        self.exited_at: float | None = None
        """When the program itself was found to have exited, by `time.monotonic`; None before."""
        self._pipes_open = {1, 2}
        self._pipes_closed = asyncio.Event()

    @classmethod
    async def start(cls, program: Program) -> ProcessGroup:
        """Start `program`. Raises the system's OSError, such as FileNotFoundError."""
        transport, group = await asyncio.get_running_loop().subprocess_exec(
            lambda: cls(program.env),
            *program.argv,
            executable=program.executable,
            stdin=subprocess.DEVNULL if program.stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(program.env),
            cwd=program.cwd,
            start_new_session=True,
        )
        stdin = cast("asyncio.WriteTransport | None", transport.get_pipe_transport(0))
        if stdin and program.stdin is not None:
            stdin.write(program.stdin)
            stdin.write_eof()
        return group

    @property
    def pid(self) -> int:
        """Process id of the program, which is the id of its group."""
        return self._started.get_pid()

    @property
    def returncode(self) -> int:
        """The exit code, or the negative number of the signal that killed it. Valid once it has exited."""
        return cast("int", self._started.get_returncode())

    async def exited(self) -> None:
        """Wait until the program itself has exited; others of its group may still run."""
        await self._exited.wait()

    async def gone(self, within: float | None = None) -> bool:
        """Wait until the whole group, and what is being stopped, has ended; return False if it takes longer."""
        return await finishes(self._nothing_runs(), within)

    async def stop(self, grace: float, with_escaped: bool = True) -> None:
        """Send TERM to all, and KILL after `grace` seconds, repeatedly; return when all have ended.

        `with_escaped` includes descendants outside the group. Meanwhile `survivors` has what still runs.
        """
        # Looked for before the signal: what loses its parents is harder to find.
        await self._look(with_escaped)
        await self._send(signal.SIGTERM)
        # A stopped process handles TERM only when it is continued.
        await self._send(signal.SIGCONT)
        await self.gone(within=grace)
        # Again and again, for processes forked while the signal was delivered.
        while await self._look(with_escaped):
            await self._send(signal.SIGKILL)
            await self.gone(within=KILL_AGAIN_SECONDS)
        await self._exited.wait()

    def kill(self) -> None:
        """Send KILL to all, without waiting."""
        self._targets = self._tree.find() if self._tree else ()
        self._signal(signal.SIGKILL)

    async def escaped(self) -> Sequence[Process]:
        """Look for descendants that outlive the group, such as daemons."""
        if self._tree and self._tree.anything_younger():
            await self._look(with_escaped=True)
        return self.survivors

    @property
    def survivors(self) -> Sequence[Process]:
        """Those of the processes last found that still run, at most MAX_SURVIVORS."""
        return list(islice(alive(self._targets), MAX_SURVIVORS))

    async def drained(self) -> None:
        """Wait until all output of the ended group is in `output`, then close `output`."""
        while not await finishes(self._pipes_closed.wait(), ESCAPED_SECONDS):
            if self.output.empty:
                break
        self.output.close()

    def close(self) -> None:
        """Close the pipes."""
        self.output.close()
        self._started.close()

    async def _look(self, with_escaped: bool) -> bool:
        """Note in `_targets` which processes run; return whether any does."""
        if self._tree is None or not readable():
            return self._group_exists()
        # In a thread, because a host may have many processes.
        found = await asyncio.to_thread(self._tree.find)
        self._targets = found if with_escaped else tuple(one for one in found if one.group == self.pid)
        return bool(self._targets)

    async def _nothing_runs(self) -> None:
        await self._exited.wait()
        await ended(self._targets)
        pause = POLL_FIRST_SECONDS
        # What the group holds besides: processes started since the look, or zombies that nobody reaps.
        while self._group_exists() and await self._look(with_escaped=False):
            if self._targets:
                await ended(self._targets)
            else:
                await asyncio.sleep(pause)
                pause = min(pause * 2, POLL_MOST_SECONDS)

    def _group_exists(self) -> bool:
        """Whether any process, or a zombie, is in the group. Once none is, never again."""
        if not self._group_ended:
            try:
                os.killpg(self.pid, 0)
            except ProcessLookupError:
                self._group_ended = True
            except PermissionError:
                pass
        return not self._group_ended

    def _group_is_ours(self) -> bool:
        """Whether a signal to the group reaches the command's processes only.

        While one of its processes is there, its id is not given to another group.
        """
        if self._tree is None or not readable():
            return self._group_exists()
        return self._tree.root_unreaped or any(alive(one for one in self._targets if one.group == self.pid))

    # Called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The program was started."""
        self._transport = cast("asyncio.SubprocessTransport", transport)
        self._tree = ProcessTree(self.pid, self._environment)
        self.output.on_pause = self._pause

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """The program printed something."""
        self.output.add("stdout" if fd == 1 else "stderr", data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """A pipe reached its end."""
        self._pipes_open.discard(fd)
        if not self._pipes_open:
            self._pipes_closed.set()

    def process_exited(self) -> None:
        """The program itself ended and was reaped."""
        self.exited_at = time.monotonic()
        if self._tree:
            self._tree.root_ended()
        self._exited.set()

    @property
    def _started(self) -> asyncio.SubprocessTransport:
        if self._transport is None:
            raise RuntimeError("the program was not started")
        return self._transport

    async def _send(self, number: signal.Signals) -> None:
        await off_loop_if_many(self._targets, self._signal, number)

    def _signal(self, number: signal.Signals) -> None:
        if self._group_is_ours():
            # It may end now, or belong to another user; the caller waits for its end anyway.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)
        for process in self._targets:
            if process.group != self.pid:
                send_signal(process, number)

    def _pause(self, paused: bool) -> None:
        for fd in self._pipes_open:
            pipe = cast("asyncio.ReadTransport | None", self._started.get_pipe_transport(fd))
            if pipe and not pipe.is_closing():
                (pipe.pause_reading if paused else pipe.resume_reading)()
