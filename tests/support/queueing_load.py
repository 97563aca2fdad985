"""A caller that queues one command after the other, through outages."""

from __future__ import annotations

import asyncio

from distributor.errors import Unavailable
from distributor.model.queueing import QueueOutcome
from tests.support.store_world import StoreWorld
from tests.support.waiting import eventually


class Load:
    """Queues one command after the other, again when it may be tried again, and knows what was acknowledged."""

    def __init__(self, world: StoreWorld) -> None:
        self._world = world
        self.acknowledged: list[str] = []
        self.failures: list[Unavailable] = []
        self._stopping = False
        self._running = asyncio.create_task(self._run())

    async def grown(self, commands: int) -> None:
        """Return once so many more commands are acknowledged."""
        goal = len(self.acknowledged) + commands
        await eventually(lambda: self._has(goal))

    async def stop(self) -> None:
        """End it after the command under way. Raises what it failed with."""
        self._stopping = True
        await self._running

    async def _has(self, goal: int) -> bool:
        if self._running.done():
            self._running.result()
        return len(self.acknowledged) >= goal

    async def _run(self) -> None:
        while not self._stopping:
            try:
                (answer,) = await self._world.enqueue(self._world.new(f"agent-{len(self.acknowledged) // 500}"))
            except Unavailable as error:
                self.failures.append(error)
                await asyncio.sleep(0.01)
            else:
                assert answer.outcome is QueueOutcome.QUEUED
                self.acknowledged.append(answer.command_id)


async def lost(world: StoreWorld, command_ids: list[str]) -> list[str]:
    """Those of these commands that are not stored."""
    states = await world.reader.states(command_ids)
    return [command_id for command_id, state in zip(command_ids, states, strict=True) if state is None]
