"""Output that comes faster than it is read."""

from __future__ import annotations

import random

from distributor.client import CommandClient
from tests.faults.campaign.checker import Rules
from tests.faults.campaign.fault import Fault
from tests.faults.campaign.history import Kind, about
from tests.faults.campaign.ledger import Work
from tests.faults.campaign.load import Load, Mix
from tests.faults.campaign.proxy import Proxy
from tests.faults.campaign.world import QUICK, Plan, World
from tests.support.waiting import until


def seen(world: World, token: str) -> tuple[int, int]:
    """Bytes of output that were seen, and gaps that were told."""
    mine = [entry for entry in world.history.entries if entry.token == token]
    read = sum(entry.details["size"] for entry in mine if entry.kind is Kind.OUTPUT)
    return read, sum(entry.kind is Kind.GAP for entry in mine)


class OutputFlood(Fault):
    """A program that prints megabytes while other commands come and go. Its reader gets every byte.

    With one server: a hold is known only to the server of its reader, so that of the agent may cut output.
    """

    name = "output flood"
    plan = Plan(servers=1)
    mix = Mix(per_second=6.0)

    def __init__(self, lines: int = 100_000) -> None:
        self.lines = lines

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        work = Work(flood=self.lines)
        token = load.add(draw.choice(world.agents).agent_id, work)
        await load.ended_of([token])
        read, gaps = seen(world, token)
        return f"{read:,} bytes, all seen" if read == len(work.output(token)) and not gaps else ""


class SlowReader(Fault):
    """A reader whose connection stands still while a program prints. What it misses, it is told.

    The output is longer than what gRPC and sockets let pile up for a peer that does not read: some megabytes.
    """

    name = "slow reader"
    plan = Plan(settings={**QUICK, "output_kept_bytes": "65536"})
    rules = Rules(whole_output=False)
    mix = Mix(per_second=6.0)

    def __init__(self, lines: int = 600_000) -> None:
        self.lines = lines

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        async with Proxy(lambda: [world.servers[0].address]) as link, CommandClient(link.address) as reader:
            token = load.add(draw.choice(world.agents).agent_id, Work(flood=self.lines), reader=reader)
            await until(lambda: any(entry.kind is Kind.STATE for entry in about(world.history.entries, token)))
            # Before there is output: what was under way already would fill the buffers of a fast connection.
            link.down.hold()
            await world.ledger.ended(token)
            link.release()
            await load.ended_of([token])
        bytes_seen, gaps = seen(world, token)
        return f"{bytes_seen:,} bytes seen, {gaps} gaps told" if gaps else ""
