"""Servers that die or stop at a named point."""

from __future__ import annotations

import asyncio
import random
import signal

from tests.faults.campaign import hooks
from tests.faults.campaign.fault import Fault
from tests.faults.campaign.load import Load, Mix
from tests.faults.campaign.world import DEFAULTS, Plan, Server, World
from tests.support.waiting import until


async def bitten(world: World, point: str, number: signal.Signals) -> Server:
    """Arm a point, and wait for the server that gets there."""
    before = len(hooks.bites(world.server_hooks))
    hooks.arm(world.server_hooks, point, number)
    await until(lambda: len(hooks.bites(world.server_hooks)) > before)
    _, pid = hooks.bites(world.server_hooks)[-1]
    return next(server for server in world.servers if server.program.starts and server.program.pid == pid)


class ServerKilledAt(Fault):
    """kill -9 of a server when it gets to a point; started again after a moment."""

    def __init__(self, point: str) -> None:
        self.point = point
        self.name = f"server killed {point.replace('_', ' ')}"

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        server = await bitten(world, self.point, signal.SIGKILL)
        code = await server.program.wait()
        await asyncio.sleep(draw.uniform(0.0, 1.0))
        await world.start_server(server)
        return f"{server.name} ended with {code}" if code == -signal.SIGKILL else ""


class ServerPausedAt(Fault):
    """SIGSTOP of a server when it gets to a point, until others have taken over; then SIGCONT."""

    def __init__(self, point: str, seconds: float = 5.0) -> None:
        self.point = point
        self.seconds = seconds
        self.name = f"server paused {point.replace('_', ' ')}"

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        server = await bitten(world, self.point, signal.SIGSTOP)
        await asyncio.sleep(self.seconds)
        server.program.send(signal.SIGCONT)
        return f"{server.name} stood still for {self.seconds:g} s"


class ServerPausedLong(ServerPausedAt):
    """A server that stands still, commands in hand, for longer than any limit of a session, with default settings."""

    plan = Plan(settings=DEFAULTS)
    mix = Mix(per_second=4.0, long_share=0.3, time_limit_seconds=300.0)
    times = 1
    ends_within_seconds = 120.0

    def __init__(self, point: str, seconds: float) -> None:
        super().__init__(point, seconds)
        self.name = f"server paused {point.replace('_', ' ')} for {seconds:g} s"
