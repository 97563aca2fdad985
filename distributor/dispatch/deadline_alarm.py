"""Hints that a deadline may be near. A lost hint only delays: the next look at deadlines finds it."""

from __future__ import annotations

import asyncio
import math


class DeadlineAlarm:
    """Wakes the loop that looks at deadlines. One waiter at a time."""

    def __init__(self) -> None:
        self._at = math.inf
        self._earlier = asyncio.Event()

    def set(self, after_seconds: float = 0.0) -> None:
        """Look at deadlines in this many seconds at the latest."""
        at = asyncio.get_running_loop().time() + after_seconds
        if at < self._at:
            self._at = at
            self._earlier.set()

    async def wait(self, seconds: float) -> None:
        """Return after this many seconds, or earlier as the alarm is set."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while (left := min(until, self._at) - loop.time()) > 0:
            self._earlier.clear()
            try:
                async with asyncio.timeout(left):
                    await self._earlier.wait()
            except TimeoutError:
                break
        if self._at <= loop.time():
            self._at = math.inf
