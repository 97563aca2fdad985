"""What a process has started, and how it is stopped in the opposite order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Final, TypeVar

from distributor.observability.logging import get_logger
from distributor.tasks import first_to_end, stop_tasks

logger = get_logger()

STEP_SECONDS: Final = 5.0
"""What each step of stopping may take, beyond the grace that it gives others."""

Loop = Callable[[], Coroutine[Any, Any, None]]
T = TypeVar("T")


class Lifespan:
    """Each part that has been started leaves behind how it is stopped; stopping goes through all of that.

    The last comes first, whatever fails or hangs. For one process, from its start to its end.
    """

    def __init__(self, step_seconds: float = STEP_SECONDS) -> None:
        """`step_seconds` is what each step of stopping may take, beyond the grace that it gives others."""
        self._step_seconds = step_seconds
        self._steps = AsyncExitStack()
        self._loops: list[asyncio.Task[None]] = []

    async def begin(self, starting: Coroutine[Any, Any, None]) -> None:
        """Run what starts the process; where that fails, stop as far as it came and raise what it failed with."""
        try:
            await starting
        except BaseException:
            await self.stop()
            raise

    async def enter(self, name: str, part: AbstractAsyncContextManager[T], grace_seconds: float = 0.0) -> T:
        """Enter it now, and have it left when the process stops."""
        entered = await part.__aenter__()
        self.at_stop(name, lambda: part.__aexit__(None, None, None), grace_seconds)
        return entered

    def at_stop(self, name: str, step: Callable[[], Awaitable[object]], grace_seconds: float = 0.0) -> None:
        """Have this done when the process stops, before everything that was asked for earlier."""

        async def bounded() -> None:
            seconds = grace_seconds + self._step_seconds
            try:
                async with asyncio.timeout(seconds):
                    await step()
            except TimeoutError:
                logger.warning("stopping goes on without waiting any longer", step=name, seconds=seconds)

        self._steps.push_async_callback(bounded)

    def start_loops(self, loops: Mapping[str, Loop]) -> None:
        """Run background loops, each meant to run for ever."""
        self.at_stop("background loops", self._stop_loops)
        for name, loop in loops.items():
            self._loops.append(asyncio.create_task(loop(), name=name))

    async def run(self) -> None:
        """Return only by raising what a background loop failed with."""
        await first_to_end(self._loops)

    async def stop(self) -> None:
        """Stop everything. Raises what a step failed with, after all the others were done."""
        await self._steps.aclose()

    async def _stop_loops(self) -> None:
        await stop_tasks(self._loops)
