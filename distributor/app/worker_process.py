"""A worker, as its supervisor sees it."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from distributor.app.worker_place import WorkerPlace, assignment
from distributor.app.worker_program import PROGRAM
from distributor.errors import DistributorError, Unavailable
from distributor.processes.child_process import ChildProcess
from distributor.processes.process_channel import ProcessChannel, ProcessEnded, error_from
from distributor.settings import ServerSettings

ANSWER_SECONDS: Final = 2.0
"""How long a worker may take to answer its supervisor."""


class WorkerAway(Unavailable):
    """A worker does not answer, or is not running."""


class WorkerProcess:
    """One run of a worker. Start it once, on the main thread, as `ChildProcess` requires.

    `sync` fsyncs the embedded Valkey; see `Worker`.
    """

    def __init__(self, settings: ServerSettings, place: WorkerPlace, sync: Callable[[], Awaitable[None]]) -> None:
        self.number = place.number
        self.serving = False
        """Whether it has started and has not ended."""
        self._assignment = assignment(settings, place)
        self._sync = sync
        self._process: ChildProcess | None = None
        self._channel: ProcessChannel | None = None
        self._reading: asyncio.Task[None] | None = None
        self._serves = asyncio.Event()
        self.failure: DistributorError | None = None
        """Why it could not serve, if it could say so."""

    async def start(self) -> None:
        """Return once it serves. Raises its error if it ends instead."""
        ours, theirs = socket.socketpair()
        with theirs:
            program = [sys.executable, *PROGRAM, str(theirs.fileno())]
            # At once, also if it hangs: it would keep the port.
            self._process = ChildProcess(program, pass_fds=[theirs.fileno()], dies_by=signal.SIGKILL)
        self._channel = ProcessChannel(ours, {"serving": self._note, "failed": self._fail, "sync": self._flush})
        await self._channel.open()
        self._reading = asyncio.create_task(self._channel.run(), name=f"worker {self.number}")
        self._channel.tell("serve", **self._assignment)
        serves = asyncio.ensure_future(self._serves.wait())
        try:
            await asyncio.wait({serves, self._reading}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            serves.cancel()
        if not self._serves.is_set():
            code = await self.ended()
            raise self.failure or Unavailable(
                f"worker {self.number} ended with exit code {code} while starting; see the log lines above",
                reason="WORKER_FAILED",
            )
        self.serving = True

    async def ended(self) -> int:
        """Wait for it to end, for any reason, and return its exit code."""
        if self._process is None or self._reading is None:
            raise RuntimeError("the worker was not started")
        code = await self._process.wait()
        self.serving = False
        # What it said last is read first.
        await asyncio.wait([self._reading])
        return code

    async def ask(self, question: str, **details: Any) -> Any:
        """Return its answer. Raises its error, and WorkerAway if it does not answer in time."""
        if self._channel is None or not self.serving:
            raise WorkerAway("not running")
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._channel.ask(question, **details)
        except TimeoutError:
            raise WorkerAway(f"no answer within {ANSWER_SECONDS:g} s") from None
        except ProcessEnded:
            raise WorkerAway("not running") from None

    async def stop(self, grace_seconds: float) -> None:
        """Let it drain and end; kill it after the grace."""
        if self._process is None or self._channel is None:
            return
        self._channel.tell("drain")
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                await self._process.wait()
        await self._process.stop()
        self.serving = False

    async def _note(self, _: dict[str, Any]) -> None:
        self._serves.set()

    async def _fail(self, details: dict[str, Any]) -> None:
        self.failure = error_from(details["error"])

    async def _flush(self, _: dict[str, Any]) -> None:
        try:
            await self._sync()
        except (OSError, RuntimeError) as error:
            raise Unavailable(str(error)) from error
