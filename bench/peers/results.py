"""The results that a caller has seen. Needs only the standard library."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time


class Results:
    """Collects results and wakes those who wait for them. All methods belong to one event loop."""

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}
        self._one: dict[str, asyncio.Future[float]] = {}
        self._counts: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def add(self, command_id: str) -> None:
        """Note the result of a command. Raises ValueError if it has one already."""
        if command_id in self._seen:
            raise ValueError(f"command {command_id} has two results")
        now = self._seen[command_id] = time.perf_counter()
        waiting = self._one.pop(command_id, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(now)
        while self._counts and self._counts[0][0] <= len(self._seen):
            _, _, reached = heapq.heappop(self._counts)
            if not reached.done():
                reached.set_result(None)

    def clear(self) -> None:
        """Forget all results, before another turn."""
        self._seen.clear()

    async def count_reaches(self, count: int) -> None:
        """Wait until `count` commands have a result."""
        if count > len(self._seen):
            reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._counts, (count, next(self._order), reached))
            await reached

    async def of(self, command_id: str) -> float:
        """Wait for the result of a command; return its arrival, as `time.perf_counter()`."""
        if command_id in self._seen:
            return self._seen[command_id]
        waiting: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._one[command_id] = waiting
        return await waiting
