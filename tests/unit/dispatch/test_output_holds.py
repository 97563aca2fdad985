"""Readers that hold back the acknowledgement of output, and with it the program."""

from __future__ import annotations

import pytest

from distributor.dispatch.agent_registry import AgentRegistry
from distributor.dispatch.output_holds import OutputHolds
from distributor.model.agent_report import LeaseRef
from distributor.observability.metrics import Metrics
from tests.support.memory_stores import MemoryAgent
from tests.support.waiting import until

C1 = LeaseRef("c1", "lease")
SLACK = 100


class World:
    """Holds, and an agent that runs c1."""

    def __init__(self, patience_seconds: float = 60.0) -> None:
        registry = AgentRegistry(Metrics())
        self.agent = MemoryAgent()
        self.agent.session.claimed("c1", "lease", 1, 0.0)
        registry.add(self.agent)
        self.holds = OutputHolds(registry, SLACK, patience_seconds)

    def stored(self, stored: int, base: int = 0) -> int:
        return self.holds.acknowledgeable(self.agent.session, C1, base, stored)


@pytest.fixture
async def world() -> World:
    return World()


async def test_without_a_reader_everything_is_acknowledged(world: World) -> None:
    assert not world.holds.holds("c1")
    assert world.stored(5_000) == 5_000


async def test_a_reader_holds_what_lies_too_far_beyond_it(world: World) -> None:
    hold = world.holds.open("c1", 0)
    assert world.holds.holds("c1")
    assert [world.stored(90), world.stored(150)] == [90, 100]

    hold.read(30)
    hold.read(60)

    assert world.agent.acknowledged == [("c1", 130), ("c1", 150)]
    assert world.stored(160) == 160


async def test_the_slowest_reader_decides_until_it_leaves(world: World) -> None:
    slow, fast = world.holds.open("c1", 0), world.holds.open("c1", 0)
    world.stored(300)
    fast.read(300)
    assert world.agent.acknowledged == []

    slow.close()

    assert world.agent.acknowledged == [("c1", 300)]
    fast.close()
    assert not world.holds.holds("c1")


async def test_offsets_of_a_later_attempt_count_from_its_beginning(world: World) -> None:
    hold = world.holds.open("c1", 1_000)
    assert world.stored(300, base=1_000) == 100
    hold.read(1_150)
    assert world.agent.acknowledged == [("c1", 250)]


async def test_an_earlier_attempt_is_not_acknowledged_during_a_later_one(world: World) -> None:
    hold = world.holds.open("c1", 0)
    world.stored(300)
    world.agent.session.ended(*C1)
    world.agent.session.claimed("c1", "another lease", 2, 0.0)

    hold.read(300)

    assert world.agent.acknowledged == []


async def test_an_acknowledgement_is_not_taken_back(world: World) -> None:
    assert world.stored(300) == 300
    world.holds.open("c1", 250)
    assert world.stored(400) == 350
    world.holds.open("c1", 0)
    assert world.stored(410) == 350


async def test_a_reader_that_does_not_read_is_given_up_and_counts_again_once_it_does() -> None:
    world = World(patience_seconds=0.02)
    hold = world.holds.open("c1", 0)
    assert world.stored(300) == 100

    await until(lambda: world.agent.acknowledged == [("c1", 300)])
    assert not world.holds.holds("c1")
    assert world.stored(500) == 500

    hold.read(450)
    assert world.stored(600) == 550


async def test_a_reservation_lasts_until_its_reader_comes(world: World) -> None:
    world.holds.reserve("c1")
    assert world.stored(300) == 100
    hold = world.holds.open("c1", 0)
    assert world.holds.holds("c1")
    hold.close()
    assert not world.holds.holds("c1")


async def test_a_reservation_without_a_reader_ends(world: World) -> None:
    world.holds.reserve("c1", 0.01)
    world.stored(300)

    await until(lambda: not world.holds.holds("c1"))
    assert world.agent.acknowledged == [("c1", 300)]
