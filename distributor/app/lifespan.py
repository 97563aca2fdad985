"""Stops the started parts of a process in reverse order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from distributor.observability.logging import get_logger
from distributor.tasks import first_to_end, stop_tasks

logger = get_logger()

STEP_SECONDS: Final = 5.0
"""Time limit of each shutdown step, on top of its own grace."""

Loop = Callable[[], Coroutine[Any, Any, None]]
T = TypeVar("T")


class Lifespan:
    """An async context manager around the life of a process. On exit, also after an error, it stops every part.

    Each part registers a shutdown step once it has started. Steps run last to first, even if one fails or hangs.
    """

    def __init__(self, step_seconds: float = STEP_SECONDS) -> None:
        """`step_seconds` is the time limit of each shutdown step, on top of its own grace."""
        self._step_seconds = step_seconds
        self._steps = AsyncExitStack()
        self._loops: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def enter(self, name: str, part: AbstractAsyncContextManager[T], grace_seconds: float = 0.0) -> T:
        """Enter `part` now and exit it on shutdown."""
        entered = await part.__aenter__()
        self.on_stop(name, lambda: part.__aexit__(None, None, None), grace_seconds)
        return entered

    def on_stop(self, name: str, step: Callable[[], Awaitable[object]], grace_seconds: float = 0.0) -> None:
        """Register a shutdown step. Steps run last to first, each limited to `grace_seconds` plus `step_seconds`."""

        async def bounded() -> None:
            seconds = grace_seconds + self._step_seconds
            try:
                async with asyncio.timeout(seconds):
                    await step()
            except TimeoutError:
                logger.warning("shutdown step timed out, continuing", step=name, seconds=seconds)

        self._steps.push_async_callback(bounded)

    def start_loops(self, loops: Mapping[str, Loop]) -> None:
        """Start background loops by name. None of them may return."""
        self.on_stop("background loops", self._stop_loops)
        for name, loop in loops.items():
            self._loops.append(asyncio.create_task(loop(), name=name))

    async def run(self) -> None:
        """Wait until a background loop fails, and raise its error."""
        await first_to_end(self._loops)

    async def stop(self) -> None:
        """Stop every part. Raises the error of a failed step after all steps have run. Safe to call again."""
        await self._steps.aclose()

    async def _stop_loops(self) -> None:
        await stop_tasks(self._loops)
