"""Calls that race with one another. Nothing is broken here; the order of events is the fault."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from typing import Final

from distributor.client import CommandClient
from tests.faults.campaign.fault import Fault
from tests.faults.campaign.history import Kind
from tests.faults.campaign.ledger import Work
from tests.faults.campaign.load import Load, Mix
from tests.faults.campaign.world import World

CLIENTS: Final = 50


class CancelRacesResult(Fault):
    """Commands that are cancelled at about the moment at which they end."""

    name = "cancel races result"
    mix = Mix(per_second=2.0)

    def __init__(self, commands: int = 20) -> None:
        self.commands = commands

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        tokens = []
        for number in range(self.commands):
            agent = world.agents[number % len(world.agents)]
            cancel_after = draw.uniform(0.05, 0.25)
            tokens.append(load.add(agent.agent_id, Work(ticks=1, tick_seconds=0.1), cancel_after=cancel_after))
            if agent is world.agents[-1]:
                await asyncio.sleep(0.25)
        await load.ended_of(tokens)
        statuses = [
            entry.details["status"]
            for entry in world.history.entries
            if entry.kind is Kind.STATE and entry.token in tokens and entry.details["by"] == "get"
        ]
        cancelled, completed = statuses.count("cancelled"), statuses.count("completed")
        return f"{cancelled} cancelled, {completed} completed" if cancelled and completed else ""


class SameKey(Fault):
    """The same command queued by many clients at once, under one idempotency key."""

    name = "one key, 50 clients"
    mix = Mix(per_second=2.0)

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(CommandClient(world.servers[number % len(world.servers)].address))
                for number in range(CLIENTS)
            ]
            token = load.add(draw.choice(world.agents).agent_id, Work(), rivals=clients)
            await load.ended_of([token])
        answers = [one for one in world.history.entries if one.token == token and one.kind is Kind.ACKNOWLEDGED]
        return f"{len(answers)} answers" if len(answers) == CLIENTS + 1 else ""
