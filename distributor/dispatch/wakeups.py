"""Hints that an agent may have something to claim. A hint may be lost: the poll finds what it would have told."""

from __future__ import annotations

import asyncio


class Wakeups:
    """Collects agent ids until the distributor looks. One waiter at a time."""

    def __init__(self) -> None:
        self._woken: set[str] = set()
        self._event = asyncio.Event()

    def wake(self, agent_id: str) -> None:
        """There may be something for this agent."""
        self._woken.add(agent_id)
        self._event.set()

    def take(self) -> set[str]:
        """The agents to wake since the last take."""
        woken, self._woken = self._woken, set()
        self._event.clear()
        return woken

    async def wait(self, timeout_seconds: float) -> bool:
        """Return True once an agent is to be woken, False after the timeout."""
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._event.wait()
        except TimeoutError:
            return False
