"""Agents that die at a named point."""

from __future__ import annotations

import asyncio
import random
import signal

from tests.faults.campaign import hooks
from tests.faults.campaign.fault import Fault
from tests.faults.campaign.ledger import Work
from tests.faults.campaign.load import Load
from tests.faults.campaign.world import Agent, World
from tests.support.waiting import until


async def bitten(world: World, point: str, number: signal.Signals) -> Agent:
    """Arm a point, and wait for the agent that gets there."""
    before = len(hooks.bites(world.agent_hooks))
    pids = {agent.program.pid: agent for agent in world.agents}
    hooks.arm(world.agent_hooks, point, number)
    await until(lambda: len(hooks.bites(world.agent_hooks)) > before)
    return pids[hooks.bites(world.agent_hooks)[-1][1]]


async def seen_dead(agent: Agent, load: Load) -> None:
    """Wait until the agent, held back, has died, and note which commands had not reached it."""
    await agent.supervised.ended()
    await load.look(agent.agent_id)


async def started_again(agent: Agent) -> None:
    """Wait until the supervisor has started the agent that has died; how soon it takes commands is its recovery."""
    await until(lambda: agent.supervised.ends < agent.program.starts)


class AgentKilledAt(Fault):
    """kill -9 of an agent when it gets to a point; its supervisor starts it again."""

    def __init__(self, point: str) -> None:
        self.point = point
        self.name = f"agent killed {point.replace('_', ' ')}"

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        for agent in world.agents:
            agent.supervised.hold_back()
        try:
            agent = await bitten(world, self.point, signal.SIGKILL)
            await seen_dead(agent, load)
        finally:
            for each in world.agents:
                each.supervised.let_start()
        await started_again(agent)
        return f"{agent.agent_id} was started again"


class JournalLost(Fault):
    """kill -9 of an agent while it runs a command, and its journal is gone when it is started again."""

    name = "agent killed, journal lost"

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        agent = draw.choice(world.agents)
        agent.supervised.hold_back()
        load.add(agent.agent_id, Work(ticks=20))
        await asyncio.sleep(draw.uniform(0.5, 1.0))
        await agent.program.kill()
        await seen_dead(agent, load)
        journals = [path for path in agent.folder.rglob("*") if path.is_file()]
        for path in journals:
            path.unlink()
        agent.supervised.let_start()
        await started_again(agent)
        return f"{len(journals)} files of {agent.agent_id} deleted" if journals else ""


class AgentPausedAt(Fault):
    """SIGSTOP of an agent when it gets to a point, for longer than the server waits; then SIGCONT."""

    def __init__(self, point: str, seconds: float = 5.0) -> None:
        self.point = point
        self.seconds = seconds
        self.name = f"agent paused {point.replace('_', ' ')}"

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        agent = await bitten(world, self.point, signal.SIGSTOP)
        await asyncio.sleep(self.seconds)
        agent.program.send(signal.SIGCONT)
        return f"{agent.agent_id} stood still for {self.seconds:g} s"
