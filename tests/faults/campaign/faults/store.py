"""A Valkey that is killed, restarted, paused or full."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from distributor.client import CommandClient
from distributor.errors import NotFound, Unavailable
from distributor.store import keys
from tests.faults.campaign.checker import Rules
from tests.faults.campaign.fault import Fault
from tests.faults.campaign.history import Kind
from tests.faults.campaign.load import Load, Mix
from tests.faults.campaign.world import QUICK, Plan, World
from tests.support.launched_server import command_line, descendants_of
from tests.support.waiting import until

VALKEY_BACK_SECONDS: Final = 6.0
"""Agents are to be back 3 s after Valkey; the rest is for the commands that they have then."""

NO_COMMAND: Final = "01890a5d-ac96-774b-bcce-b302099a8057"
"""A command id that nobody has."""


class ValkeyEnded(Fault):
    """Valkey ends by a signal, stays away for a while, and comes back with its data."""

    recovers_within_seconds = VALKEY_BACK_SECONDS

    def __init__(self, name: str, number: signal.Signals, away_seconds: float) -> None:
        self.name = name
        self.number = number
        self.away_seconds = away_seconds

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        starts = world.valkey.starts
        world.valkey_supervised.hold_back()
        world.valkey.send(self.number)
        await until(lambda: not world.valkey.running)
        async with needing_valkey(world.clients[0]) as call:
            await asyncio.sleep(self.away_seconds * draw.uniform(0.5, 1.5))
            bit = was_kept(call)
        world.valkey_supervised.let_start()
        await until(lambda: world.valkey.starts > starts)
        await world.valkey.ready()
        return "a call waited, and Valkey was started again" if bit else ""


class ValkeyPaused(Fault):
    """Valkey stands still: connections stay open, and nothing is answered."""

    name = "Valkey paused"
    recovers_within_seconds = VALKEY_BACK_SECONDS

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        world.valkey.send(signal.SIGSTOP)
        async with needing_valkey(world.clients[0]) as call:
            await asyncio.sleep(self.seconds * draw.uniform(0.8, 1.2))
            bit = was_kept(call)
        world.valkey.send(signal.SIGCONT)
        return f"a call waited, and Valkey stood still for about {self.seconds:g} s" if bit else ""


@asynccontextmanager
async def needing_valkey(client: CommandClient) -> AsyncIterator[asyncio.Task[bool]]:
    """A call that only Valkey can answer, given up at the end."""
    call = asyncio.create_task(answered(client))
    try:
        yield call
    finally:
        call.cancel()
        await asyncio.wait([call])


async def answered(client: CommandClient) -> bool:
    """Make a call that only Valkey can answer; False if it failed as unavailable."""
    try:
        await client.get(NO_COMMAND)
    except NotFound:
        return True
    except Unavailable:
        return False
    raise AssertionError(f"there is a command {NO_COMMAND}")


def was_kept(call: asyncio.Task[bool]) -> bool:
    """Whether a call that began when Valkey ended waits yet, or has failed."""
    return not call.done() or not call.result()


class ValkeyFull(Fault):
    """Valkey has no memory left: it refuses new commands, and those that it has still end."""

    name = "Valkey out of memory"
    rules = Rules(refusals=frozenset({"RESOURCE_EXHAUSTED"}), whole_output=False)

    def __init__(self, seconds: float = 3.0) -> None:
        self.seconds = seconds

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        before = refusals(world)
        async with world.valkey.client() as valkey:
            await valkey.config_set("maxmemory", "1")
            try:
                await asyncio.sleep(self.seconds)
                await until(lambda: refusals(world) > before)
            finally:
                await valkey.config_set("maxmemory", "0")
        return f"{refusals(world) - before} commands refused"


def refusals(world: World) -> int:
    """How many commands were refused so far."""
    return sum(entry.kind is Kind.REFUSED for entry in world.history.entries)


class IndexesDeleted(Fault):
    """The indexes of queued commands are gone; the sweep finds them again."""

    name = "index keys deleted"
    plan = Plan(settings={**QUICK, "cleanup_interval": "1"})
    mix = Mix(per_second=20.0)
    # A command that the sweep has queued again has lost its place.
    rules = Rules(in_order=False, repairs=True)

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        names = [
            name
            for agent in world.agents
            for name in (keys.READY.format(agent_id=agent.agent_id), keys.ASSIGNED.format(agent_id=agent.agent_id))
        ]
        async with world.valkey.client() as valkey:
            deleted = 0
            for _ in range(5):
                deleted += int(await valkey.delete(*names, keys.DEADLINES))
                await asyncio.sleep(draw.uniform(0.1, 0.5))
        return f"{deleted} keys deleted" if deleted else ""


class ValkeyKilledOnSlowDisk(ValkeyEnded):
    """kill -9 of a Valkey that fsyncs each second, while each fsync takes long: it answers before it writes."""

    plan = Plan(appendfsync="everysec", slow_disk=True)
    times = 2

    def __init__(self, fsync_ms: int = 1_000) -> None:
        super().__init__("Valkey killed, everysec, slow disk", signal.SIGKILL, 0.5)
        self.fsync_ms = fsync_ms

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        assert world.disk is not None
        before = world.disk.syncs()
        world.disk.set(self.fsync_ms)
        try:
            await asyncio.sleep(3 * self.fsync_ms / 1000 + draw.uniform(0.0, 1.0))
            slow = world.disk.syncs() - before
            bite = await super().inject(world, load, draw)
        finally:
            world.disk.set()
        return f"{bite}, after {slow} fsyncs of {self.fsync_ms} ms" if bite and slow else ""


class EmbeddedValkeyKilled(Fault):
    """kill -9 of the Valkey that a server embeds, while each fsync of its disk takes long. Its server restarts it."""

    times = 2
    recovers_within_seconds = VALKEY_BACK_SECONDS

    def __init__(self, fsync_ms: int = 1_500, durability: str = "process") -> None:
        self.fsync_ms = fsync_ms
        self.name = f"embedded Valkey killed, {durability}, slow disk"
        self.plan = Plan(servers=1, embedded=True, settings={**QUICK, "durability": durability})

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        (server,) = world.servers
        assert world.disk is not None
        world.disk.set(self.fsync_ms)
        # Two fsyncs: what is written meanwhile is in no file of a Valkey that waits for them.
        await asyncio.sleep(2 * self.fsync_ms / 1000 + draw.uniform(0.0, 1.0))
        log = server.program.log
        times = log.read_text(errors="replace").count(_BACK)
        (valkey,) = [pid for pid in descendants_of(server.program.pid) if b"valkey-server" in command_line(pid)]
        os.kill(valkey, signal.SIGKILL)
        await server.program.said(_BACK, times=times + 1)
        world.disk.set()
        return f"Valkey {valkey} was killed with fsyncs of {self.fsync_ms} ms"


_BACK = "the embedded Valkey is running again"
