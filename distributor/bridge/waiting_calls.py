"""What a dashboard asked of the server, and what waits its turn: in order, with a bound."""

from __future__ import annotations

import asyncio
from typing import Final, Generic, TypeVar

from distributor.errors import ResourceExhausted

MAX_WAITING: Final = 1_000
MAX_WAITING_CHARACTERS: Final = 4_194_304

R = TypeVar("R")


class WaitingCalls(Generic[R]):
    """Requests of one kind of one dashboard.

    Beyond the bound they are refused and not waited for: who is not read from cannot be heard to be alive either.
    """

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[tuple[R, int]] = asyncio.Queue()
        self._characters = 0

    def put(self, request: R, characters: int) -> None:
        """Let a request wait, which came as so many characters. Raises ResourceExhausted."""
        if self._waiting.qsize() >= MAX_WAITING or self._characters + characters > MAX_WAITING_CHARACTERS:
            raise ResourceExhausted(
                f"{self._waiting.qsize():,} requests wait, as many as may; send it again when some are answered",
                reason="TOO_MANY_REQUESTS",
            )
        self._characters += characters
        self._waiting.put_nowait((request, characters))

    async def get(self) -> R:
        """The request that has waited longest."""
        request, characters = await self._waiting.get()
        self._characters -= characters
        return request
