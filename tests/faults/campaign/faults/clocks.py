"""Wall clocks that jump by an hour. No decision may depend on them."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from tests.faults.campaign.fault import Fault
from tests.faults.campaign.load import Load
from tests.faults.campaign.world import Plan, World

HOUR_SECONDS: Final = 3_600


class ClocksOff(Fault):
    """The clocks of all servers and agents jump, each in its own direction, and back."""

    name = "clocks off by an hour"
    plan = Plan(clocks=True)

    def __init__(self, seconds: float = 3.0) -> None:
        self.seconds = seconds

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        clocks = list(world.clocks.values())
        before = [clock.reads for clock in clocks]
        directions = [HOUR_SECONDS if place % 2 else -HOUR_SECONDS for place in range(len(clocks))]
        draw.shuffle(directions)
        for clock, off in zip(clocks, directions, strict=True):
            clock.set(off)
        await asyncio.sleep(self.seconds)
        reads = [clock.reads - earlier for clock, earlier in zip(clocks, before, strict=True)]
        for clock in clocks:
            clock.set(0)
        return f"{sum(reads)} readings of clocks that were off" if all(reads) else ""
