"""Bounded waits that poll a condition for which there is no event."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

PATIENCE_SECONDS: Final = 30.0
"""Longer than anything here takes on a busy machine; a test that waits so long has failed."""

PAUSE_SECONDS: Final = 0.002

T = TypeVar("T")


async def until(condition: Callable[[], object]) -> None:
    """Return once `condition` is true."""

    async def probe() -> object:
        return condition()

    await eventually(probe)


async def eventually(probe: Callable[[], Awaitable[T | None]]) -> T:
    """The first true answer of `probe`."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            answer = await probe()
            if answer:
                return answer
            await asyncio.sleep(PAUSE_SECONDS)
