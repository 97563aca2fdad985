"""Servers that are replaced one after the other, as an upgrade does. No command may wait for that."""

from __future__ import annotations

import asyncio
import random
import signal
from typing import Final

from tests.faults.campaign.checker import Rules
from tests.faults.campaign.fault import Fault
from tests.faults.campaign.load import Load, Mix
from tests.faults.campaign.world import DEFAULTS, Plan, World

MOST_WAIT_SECONDS: Final = 5.0


class RollingRestart(Fault):
    """SIGTERM to each server in turn; the next is stopped when this one serves again."""

    rules = Rules(most_wait_seconds=MOST_WAIT_SECONDS)
    # Few and short, so that a command waits for nothing but the restart.
    mix = Mix(per_second=4.0, long_share=0.0, cancelled_share=0.0, rerun_share=0.0)
    times = 2
    recovers_within_seconds = MOST_WAIT_SECONDS

    def __init__(self, name: str, several_addresses: bool) -> None:
        self.name = name
        self.plan = Plan(settings=DEFAULTS, several_addresses=several_addresses)

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        codes = []
        for server in world.servers:
            await asyncio.sleep(draw.uniform(0.5, 1.5))
            server.program.send(signal.SIGTERM)
            codes.append(await server.program.wait())
            await world.start_server(server)
        return f"{len(codes)} servers replaced" if codes == [0] * len(world.servers) else ""
