"""Links between agents, servers and Valkey that lose one direction or both, are slow, or are cut."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from tests.faults.campaign.fault import Fault
from tests.faults.campaign.load import Load, Mix
from tests.faults.campaign.proxy import Lane, Proxy
from tests.faults.campaign.world import DEFAULTS, Plan, World


def agent_links(world: World) -> list[Proxy]:
    """Between agents and servers."""
    return [link for agent in world.agents for link in agent.links]


def valkey_links(world: World) -> list[Proxy]:
    """Between servers and Valkey."""
    return [server.valkey for server in world.servers if server.valkey is not None]


def both(links: Sequence[Proxy]) -> list[Lane]:
    """Both directions of some links."""
    return [lane for link in links for lane in (link.up, link.down)]


class Held(Fault):
    """Lanes on which nothing passes for some seconds. What was sent meanwhile arrives afterwards."""

    def __init__(self, name: str, lanes: Callable[[World], Sequence[Lane]], seconds: float) -> None:
        self.name = name
        self.lanes = lanes
        self.seconds = seconds

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        lanes = self.lanes(world)
        before = sum(lane.caught_bytes for lane in lanes)
        for lane in lanes:
            lane.hold()
        await asyncio.sleep(self.seconds * draw.uniform(0.8, 1.2))
        for lane in lanes:
            lane.release()
        # What the lanes had caught counts once they are free: a chunk that waited is one that bit.
        caught = sum(lane.caught_bytes for lane in lanes) - before
        return f"{caught} bytes held" if caught else ""


class HeldLong(Held):
    """The way from servers to agents stands still for longer than any deadline of a delivery, with default settings."""

    plan = Plan(settings=DEFAULTS)
    mix = Mix(per_second=4.0, long_share=0.3, time_limit_seconds=300.0)
    times = 1
    ends_within_seconds = 120.0

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(name, lambda world: [link.down for link in agent_links(world)], seconds)


class Slow(Fault):
    """Agents whose link is slow: each byte late, and few in a second."""

    def __init__(self, name: str, delay_seconds: float, bytes_per_second: float, seconds: float) -> None:
        self.name = name
        self.delay_seconds = delay_seconds
        self.bytes_per_second = bytes_per_second
        self.seconds = seconds

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        links = agent_links(world)
        before = sum(link.caught_bytes for link in links)
        for link in links:
            for lane in (link.up, link.down):
                lane.delay_seconds, lane.bytes_per_second = self.delay_seconds, self.bytes_per_second
        await asyncio.sleep(self.seconds)
        for link in links:
            link.release()
        caught = sum(link.caught_bytes for link in links) - before
        return f"{caught} bytes delayed" if caught else ""


class Cut(Fault):
    """All connections of some links reset at once, again and again."""

    def __init__(self, name: str, links: Callable[[World], Sequence[Proxy]]) -> None:
        self.name = name
        self.links = links

    async def inject(self, world: World, load: Load, draw: random.Random) -> str:
        cut = 0
        for _ in range(3):
            cut += sum(link.cut() for link in self.links(world))
            await asyncio.sleep(draw.uniform(0.2, 1.0))
        return f"{cut} connections cut" if cut else ""
