"""Many agents that lose their connections at the same moment and come back together."""

from __future__ import annotations

import asyncio
import random
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from bench.agents import AgentsPlan
from distributor.client import CommandRequest
from distributor.errors import DistributorError
from tests.faults.campaign.fault import Fault
from tests.faults.campaign.history import Kind
from tests.faults.campaign.ledger import now
from tests.faults.campaign.load import Load, Mix, note_state
from tests.faults.campaign.world import DEFAULTS, Plan, World
from tests.support.launched_server import ROOT

PER_PROCESS: Final = 500
PATIENCE_SECONDS: Final = 120.0


class Crowd(Fault):
    """Light agents, some hundred in a process, that all reconnect at once. Then each runs a command."""

    # Thousands of agents with a heartbeat each half second would be a flood of heartbeats, not a crowd that returns.
    plan = Plan(settings=DEFAULTS)
    mix = Mix(per_second=4.0)
    times = 2

    def __init__(self, agents: int) -> None:
        self.agents = agents
        self.name = f"{agents:,} agents reconnect"

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        async with AsyncExitStack() as stack:
            crowd: list[tuple[AgentsPlan, Process]] = []
            for first in range(0, self.agents, PER_PROCESS):
                server = world.servers[len(crowd) % len(world.servers)]
                size = min(PER_PROCESS, self.agents - first)
                plan = AgentsPlan(server.address, f"crowd{draw.randrange(10**9)}", size, 1)
                crowd.append((plan, await stack.enter_async_context(light_agents(plan))))
            begun = now()
            retries = sum(await asyncio.gather(*(reconnected(process) for _, process in crowd)))
            seconds = now() - begun
            await all_run(world, [agent_id for plan, _ in crowd for agent_id in plan.ids()])
        return f"{self.agents} agents were back after {seconds:.1f} s and {retries} retries"


@asynccontextmanager
async def light_agents(plan: AgentsPlan) -> AsyncIterator[Process]:
    """A process of attached agents."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.agents", plan.dump(), cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=DEVNULL
    )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert process.stdout is not None
            assert await process.stdout.readline() == b"attached\n"
        yield process
    finally:
        process.terminate()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await process.wait()


async def reconnected(process: Process) -> int:
    """Cut all connections of a process of agents; return the number of retries once all are back."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"\n")
    async with asyncio.timeout(PATIENCE_SECONDS):
        return int(await process.stdout.readline())


async def all_run(world: World, agent_ids: Sequence[str]) -> None:
    """Have each of these agents run a command, whose token is the id of the agent."""
    client, history = world.clients[0], world.history
    for agent_id in agent_ids:
        history.note(Kind.ASKED, agent_id, agent=agent_id, priority=50, work=None)
    outcomes = await client.queue_many([CommandRequest(agent_id, "CROWD") for agent_id in agent_ids])
    tokens: dict[str, str] = {}
    for agent_id, outcome in zip(agent_ids, outcomes, strict=True):
        if isinstance(outcome, DistributorError):
            history.note(Kind.REFUSED, agent_id, code=outcome.code, error=str(outcome))
        else:
            tokens[outcome.command_id] = agent_id
            history.note(Kind.ACKNOWLEDGED, agent_id, command_id=outcome.command_id)
    async for state in client.wait_many(list(tokens), timeout_seconds=PATIENCE_SECONDS):
        note_state(history, tokens[state.command_id], state, "wait")
