"""The processes of a campaign: servers, agents under a supervisor, and Valkey. Each is a real program."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from distributor.processes.child_process import ChildProcess
from tests.support.launched_server import ROOT
from tests.support.waiting import until

LAUNCHERS: Final = Path(__file__).parent
RESTART_SECONDS: Final = 0.1
"""How long a supervisor waits before it starts a process again."""
STOP_SECONDS: Final = 20.0


class Program:
    """A program that can be started again and again. Its log goes to `log`."""

    def __init__(self, command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.command = list(command)
        self.log = log
        self.environment = dict(environment or {})
        self.starts = 0
        self._child: ChildProcess | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._child is not None
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._child is not None and self._child.exit_code is None

    def start(self) -> None:
        """Start it; `wait` tells when it has ended."""
        whole = {name: value for name, value in os.environ.items() if not name.startswith("DISTRIBUTOR_")}
        whole |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **self.environment}
        self.starts += 1
        with self.log.open("ab") as log:
            self._child = ChildProcess(self.command, output=log, environment=whole)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    async def wait(self) -> int:
        """Wait for its end; its exit code."""
        assert self._child is not None
        return await self._child.wait()

    async def kill(self) -> None:
        """End it at once."""
        self.send(signal.SIGKILL)
        await self.wait()

    async def stop(self, grace_seconds: float = STOP_SECONDS) -> None:
        """Let it end by itself; kill it if it does not."""
        if self._child is not None:
            self.send(signal.SIGCONT)
            await self._child.stop(grace_seconds)

    async def said(self, text: str, times: int = 1) -> None:
        """Wait until its log has `text` so many times. Raises AssertionError if it ends before."""

        def found() -> bool:
            log = self.log.read_text(errors="replace")
            assert self.running or log.count(text) >= times, f"{self.command} ended: {log[-2_000:]}"
            return log.count(text) >= times

        await until(found)


class Supervised:
    """Starts a program again whenever it ends, until it is told to stop. `died` is called at each end."""

    def __init__(self, program: Program, died: Callable[[], object] = lambda: None) -> None:
        self.program = program
        self.restarts = 0
        self.ends = 0
        self._died = died
        self._task: asyncio.Task[None] | None = None
        self._may_start = asyncio.Event()
        self._may_start.set()

    def start(self) -> None:
        """Start it, and keep it running."""
        self.program.start()
        self._task = asyncio.create_task(self._supervise())

    async def stop(self) -> None:
        """End it for good."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self.program.stop()

    async def ended(self) -> None:
        """Wait until its process has ended, and `died` was called. Hold it back before, so that it stays so."""
        await until(lambda: self.ends == self.program.starts)

    def hold_back(self) -> None:
        """Do not start it again until `let_start`."""
        self._may_start.clear()

    def let_start(self) -> None:
        """Start it again as usual."""
        self._may_start.set()

    async def _supervise(self) -> None:
        while True:
            await self.program.wait()
            self._died()
            self.ends += 1
            await asyncio.sleep(RESTART_SECONDS)
            await self._may_start.wait()
            self.restarts += 1
            self.program.start()


def python(script: str, *arguments: str) -> list[str | Path]:
    """The command line of one of the launchers of this package."""
    # -P: modules of this folder must not shadow installed packages.
    return [sys.executable, "-P", LAUNCHERS / script, *arguments]
