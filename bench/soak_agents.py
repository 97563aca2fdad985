"""A process of agents that answer at once and reconnect again and again, as they do over bad networks.

Takes an AgentsPlan and the reconnects per second, as JSON. Prints a line once all agents are attached, and on SIGTERM,
once they have left, the number of reconnects.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from contextlib import suppress
from typing import Final

import grpc

from bench.agents import ATTACHING_AT_ONCE, AgentsPlan, InstantAgent
from bench.event_loop import loop_factory
from distributor.app.signals import StopSignals
from distributor.tasks import first_of

LEAVING_SECONDS: Final = 10.0


class Reconnects:
    """Has random agents reconnect at a steady rate; every other one leaves without a Goodbye."""

    def __init__(self, agents: list[InstantAgent], address: str, per_second: float) -> None:
        self._free = agents
        self._address = address
        self._per_second = per_second
        self._running: set[asyncio.Task[None]] = set()
        self.count = 0

    async def run(self) -> None:
        """Reconnect until cancelled. Later ones follow at once if the machine could not keep up."""
        begun = time.monotonic()
        for number in range(sys.maxsize):
            await asyncio.sleep(max(0.0, begun + number / self._per_second - time.monotonic()))
            if not self._free:
                continue
            place = random.randrange(len(self._free))
            self._free[place], self._free[-1] = self._free[-1], self._free[place]
            task = asyncio.create_task(self._reconnect(self._free.pop(), polite=number % 2 == 0))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def settle(self) -> None:
        """Wait for the reconnects under way."""
        await asyncio.gather(*self._running)

    async def _reconnect(self, agent: InstantAgent, polite: bool) -> None:
        if polite:
            # Its stream may have just ended.
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await asyncio.wait_for(agent.leave(), LEAVING_SECONDS)
        await agent.reconnect(self._address)
        self.count += 1
        self._free.append(agent)


async def run(plan: AgentsPlan, per_second: float) -> None:
    """Attach all agents, report that, reconnect until a signal, detach, report the count."""
    agents = [InstantAgent(agent_id, plan.capacity) for agent_id in plan.ids()]
    some = asyncio.Semaphore(ATTACHING_AT_ONCE)

    async def attach(agent: InstantAgent) -> None:
        async with some:
            await agent.attach_when_admitted(plan.address)

    with StopSignals() as signals:
        await asyncio.gather(*(attach(agent) for agent in agents))
        print("attached", flush=True)
        reconnects = Reconnects(agents[:], plan.address, per_second)
        await first_of(signals.wait(), reconnects.run())
        await reconnects.settle()
        await asyncio.gather(*(agent.leave() for agent in agents), return_exceptions=True)
        print(reconnects.count, flush=True)


if __name__ == "__main__":
    plan_json, rate = sys.argv[1:]
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run(AgentsPlan(**json.loads(plan_json)), float(rate)))
