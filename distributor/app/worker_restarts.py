"""Keeps one worker running."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from distributor.app.worker_process import WorkerProcess
from distributor.errors import DistributorError
from distributor.observability.logging import get_logger

logger = get_logger()

FIRST_PAUSE_SECONDS: Final = 0.25
LONGEST_PAUSE_SECONDS: Final = 10.0
STEADY_SECONDS: Final = 30.0
"""A worker that served for so long is started again after the shortest pause."""


class WorkerRestarts:
    """Starts a worker again whenever it has ended, with backoff, and for ever: the others serve meanwhile."""

    def __init__(self, make: Callable[[], WorkerProcess], restarted: Callable[[], None]) -> None:
        """`restarted` is called whenever a worker serves again."""
        self._make = make
        self._restarted = restarted
        self._pause = FIRST_PAUSE_SECONDS
        self._stopping = False
        self.worker = make()
        """The latest run."""

    async def start(self) -> None:
        """Start the first run. Raises the error of a worker that cannot serve."""
        await self.worker.start()

    async def run(self) -> None:
        """Restart it until cancelled, or until it is stopped, then wait to be cancelled."""
        while not self._stopping:
            await self.run_once()
        await asyncio.get_running_loop().create_future()

    async def run_once(self) -> None:
        """Wait for the worker to end, then start it again, unless it was stopped."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        code = await self.worker.ended()
        if self._stopping:
            return
        if loop.time() - begun >= STEADY_SECONDS:
            self._pause = FIRST_PAUSE_SECONDS
        logger.error("worker ended, restarting it", worker=self.worker.number, exit_code=code, **_why(self.worker))
        await self._pause_longer()
        await self._start_again()

    async def stop(self, grace_seconds: float) -> None:
        """Stop the worker for good. It has the grace to drain."""
        self._stopping = True
        await self.worker.stop(grace_seconds)

    async def _start_again(self) -> None:
        while not self._stopping:
            self.worker = self._make()
            try:
                await self.worker.start()
            except DistributorError as error:
                logger.error("cannot restart a worker", worker=self.worker.number, error=str(error))
                await self._pause_longer()
            else:
                logger.info("worker is running again", worker=self.worker.number)
                self._restarted()
                return

    async def _pause_longer(self) -> None:
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        await asyncio.sleep(pause)


def _why(worker: WorkerProcess) -> dict[str, str]:
    return {"error": str(worker.failure)} if worker.failure is not None else {}
