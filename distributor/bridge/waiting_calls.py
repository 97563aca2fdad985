"""What a dashboard asked of the server, and what waits its turn: in order, with a bound."""

from __future__ import annotations

import asyncio
from typing import Final, Generic, TypeVar

from distributor.errors import ResourceExhausted

MAX_WAITING: Final = 1_000
MAX_WAITING_BYTES: Final = 4_194_304

R = TypeVar("R")


class WaitingCalls(Generic[R]):
    """Requests of one kind of one dashboard.

    Beyond the bound they are refused and not waited for: who is not read from cannot be heard to be alive either.
    """

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[tuple[R, int]] = asyncio.Queue()
        self._size = 0

    def put(self, request: R, size: int) -> None:
        """Let a request wait that came as `size` bytes. Raises ResourceExhausted."""
        if self._waiting.qsize() >= MAX_WAITING:
            raise _too_many(f"{MAX_WAITING:,} requests wait, the limit")
        if self._size + size > MAX_WAITING_BYTES:
            raise _too_many(f"requests of {MAX_WAITING_BYTES // 1_048_576} MiB wait, the limit")
        self._size += size
        self._waiting.put_nowait((request, size))

    async def get(self) -> R:
        """The request that has waited longest."""
        request, size = await self._waiting.get()
        self._size -= size
        return request


def _too_many(what: str) -> ResourceExhausted:
    return ResourceExhausted(f"{what}; send it again when some are answered", reason="TOO_MANY_REQUESTS")
