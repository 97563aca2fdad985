"""Hints that an agent may have something to claim. A hint may be lost: the poll finds what it would have told."""

from __future__ import annotations

import asyncio


class Doorbell:
    """Collects agent ids until the distributor looks. One waiter at a time."""

    def __init__(self) -> None:
        self._rung: set[str] = set()
        self._event = asyncio.Event()

    def ring(self, agent_id: str) -> None:
        """There may be something for this agent."""
        self._rung.add(agent_id)
        self._event.set()

    def take(self) -> set[str]:
        """The agents rung for since the last take."""
        rung, self._rung = self._rung, set()
        self._event.clear()
        return rung

    async def wait(self, timeout_seconds: float) -> bool:
        """Return True once something was rung for, False after the timeout."""
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._event.wait()
        except TimeoutError:
            return False
