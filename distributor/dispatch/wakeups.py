"""Hints that an agent may have something to claim. A hint may be lost: the poll finds what it would have told."""

from __future__ import annotations

import asyncio


class Wakeups:
    """Collects agent ids until the distributor looks. One waiter at a time."""

    def __init__(self) -> None:
        self._woken: set[str] = set()
        self._control: set[str] = set()
        self._event = asyncio.Event()

    def wake(self, agent_id: str, control: bool = False) -> None:
        """There may be something for this agent; with `control`, something that it takes although it is full."""
        self._woken.add(agent_id)
        if control:
            self._control.add(agent_id)
        self._event.set()

    def take(self) -> set[str]:
        """The agents to wake since the last take."""
        woken, self._woken = self._woken, set()
        self._event.clear()
        return woken

    def take_control(self) -> set[str]:
        """Those of the agents to wake since the last call that may have a control command."""
        control, self._control = self._control, set()
        return control

    async def wait(self, timeout_seconds: float) -> bool:
        """Return True once an agent is to be woken, False after the timeout."""
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._event.wait()
        except TimeoutError:
            return False
