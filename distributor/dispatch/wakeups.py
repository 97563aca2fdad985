"""Hints that an agent may have commands to claim. A lost hint only delays: polling finds the same commands."""

from __future__ import annotations

import asyncio


class Wakeups:
    """Collects agent ids for the distributor. One waiter at a time."""

    def __init__(self) -> None:
        self._woken: set[str] = set()
        self._control: set[str] = set()
        self._event = asyncio.Event()

    def wake(self, agent_id: str, control: bool = False) -> None:
        """The agent may have commands; with `control`, possibly control commands, which it takes even when full."""
        self._woken.add(agent_id)
        if control:
            self._control.add(agent_id)
        self._event.set()

    def take(self) -> set[str]:
        """Take the agents woken since the last take."""
        woken, self._woken = self._woken, set()
        self._event.clear()
        return woken

    def take_control(self) -> set[str]:
        """Take the agents that may have a control command, woken since the last call."""
        control, self._control = self._control, set()
        return control

    async def wait(self, timeout_seconds: float) -> bool:
        """Return True once an agent is woken, False after the timeout."""
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._event.wait()
        except TimeoutError:
            return False
