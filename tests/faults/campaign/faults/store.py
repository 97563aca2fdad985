"""A Valkey that is killed, restarted, paused or full."""

from __future__ import annotations

import asyncio
import random
import signal

from tests.faults.campaign.fault import Fault
from tests.faults.campaign.load import Load
from tests.faults.campaign.world import World
from tests.support.waiting import until


class ValkeyEnded(Fault):
    """Valkey ends by a signal, stays away for a while, and comes back with its data."""

    def __init__(self, name: str, number: signal.Signals, away_seconds: float) -> None:
        self.name = name
        self.number = number
        self.away_seconds = away_seconds

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        starts = world.valkey.starts
        world.valkey_supervised.hold_back()
        world.valkey.send(self.number)
        await until(lambda: not world.valkey.running)
        await asyncio.sleep(self.away_seconds * draw.uniform(0.5, 1.5))
        world.valkey_supervised.let_start()
        await until(lambda: world.valkey.starts > starts)
        await world.valkey.ready()
        return "Valkey was started again"


class ValkeyPaused(Fault):
    """Valkey stands still: connections stay open, and nothing is answered."""

    name = "Valkey paused"

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        world.valkey.send(signal.SIGSTOP)
        await asyncio.sleep(self.seconds * draw.uniform(0.8, 1.2))
        world.valkey.send(signal.SIGCONT)
        return f"Valkey stood still for about {self.seconds:g} s"
