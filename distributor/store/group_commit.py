"""Batches concurrent calls.

While one call to Valkey is in progress, new items wait and go with the next call. An idle system adds no delay;
under load, more callers share the cost of each round trip.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Reply = TypeVar("Reply")


class GroupCommit(Generic[Item, Reply]):
    """Combines items of concurrent `submit` calls into batches of at most `max_items`, one batch at a time.

    Preserves order. Cancelling a caller does not cancel the call to Valkey, which runs in a task owned by this object.
    Lives as long as its loop; `idle()` waits until nothing is in progress.
    """

    def __init__(self, send: Callable[[list[Item]], Awaitable[Sequence[Reply]]], max_items: int) -> None:
        self._send = send
        self._max_items = max_items
        self._waiting: deque[tuple[Sequence[Item], asyncio.Future[list[Reply]]]] = deque()
        self._sender: asyncio.Task[None] | None = None

    async def submit(self, items: Sequence[Item]) -> list[Reply]:
        """The replies to `items`, in order. Raises the error of the call that carried them."""
        if not items:
            return []
        if len(items) > self._max_items:
            replies: list[Reply] = []
            for first in range(0, len(items), self._max_items):
                replies += await self.submit(items[first : first + self._max_items])
            return replies
        future: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()
        self._waiting.append((items, future))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all())
        return await future

    async def idle(self) -> None:
        """Return once nothing is in progress."""
        while self._sender is not None:
            await asyncio.wait([self._sender])

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                await self._send_batch()
        finally:
            self._sender = None

    async def _send_batch(self) -> None:
        batch: list[Item] = []
        callers: list[tuple[int, asyncio.Future[list[Reply]]]] = []
        while self._waiting and len(batch) + len(self._waiting[0][0]) <= self._max_items:
            items, future = self._waiting.popleft()
            batch += items
            callers.append((len(items), future))
        try:
            replies = await self._send(batch)
        except Exception as error:  # noqa: BLE001 - each caller gets it; the sender itself continues
            for _, future in callers:
                if not future.done():
                    future.set_exception(error)
            return
        first = 0
        for count, future in callers:
            if not future.done():
                future.set_result(list(replies[first : first + count]))
            first += count
