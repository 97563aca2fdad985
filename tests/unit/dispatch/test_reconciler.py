"""What agents are believed to have, against what the store says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from distributor.dispatch.agent_registry import AgentRegistry
from distributor.dispatch.reconciler import MAX_COMMANDS_PER_READ, Reconciler
from distributor.dispatch.wakeups import Wakeups
from distributor.errors import Unavailable
from distributor.model.command import CommandState
from distributor.model.lifecycle import CommandStatus
from distributor.observability.metrics import Metrics
from tests.support.memory_reader import MemoryReader
from tests.support.memory_stores import MemoryAgent, state
from tests.support.serving_agent import background
from tests.support.waiting import until


class Reader(MemoryReader):
    """Answers with the states it was given; `asking` is called while it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.largest = 0
        self.asking: Callable[[], None] = lambda: None

    async def states(self, command_ids: Sequence[str]) -> list[CommandState | None]:
        self.reads += 1
        self.largest = max(self.largest, len(command_ids))
        self.asking()
        return await super().states(command_ids)


class World:
    def __init__(self) -> None:
        self.reader, self.wakeups, self.asked = Reader(), Wakeups(), asyncio.Event()
        self.registry = AgentRegistry(Metrics())
        self.agent = MemoryAgent()
        self.session = self.agent.session
        self.registry.add(self.agent)
        self.reconciler = Reconciler(self.reader, self.registry, self.wakeups, self.asked)
        self.session.claimed("c1", "lease", 2, 0.0)


@pytest.fixture
async def world() -> World:
    return World()


async def test_what_is_as_believed_stays(world: World) -> None:
    world.reader.known["c1"] = state(attempt=2)
    assert await world.reconciler.run_once() == 0
    assert list(world.session.in_flight) == ["c1"]
    assert world.agent.cancelled == []


@pytest.mark.parametrize(
    "known",
    [
        None,
        state(status=CommandStatus.COMPLETED, attempt=2),
        state(status=CommandStatus.QUEUED, attempt=2),
        state(attempt=3),
    ],
    ids=["forgotten", "ended", "released", "given out again"],
)
async def test_what_is_no_longer_the_agents_is_stopped_and_makes_room(world: World, known: CommandState | None) -> None:
    if known is not None:
        world.reader.known["c1"] = known
    assert await world.reconciler.run_once() == 1
    assert world.session.in_flight == {}
    assert [command_id for command_id, _ in world.agent.withdrawn] == ["c1"]
    assert world.wakeups.take() == {"agent123"}


async def test_a_cancel_that_never_came_is_sent(world: World) -> None:
    world.reader.known["c1"] = state(attempt=2)._replace(cancel_ms=5)
    assert await world.reconciler.run_once() == 0
    assert [command_id for command_id, _ in world.agent.cancelled] == ["c1"]


async def test_what_changes_while_the_store_is_asked_is_left_alone(world: World) -> None:
    def given_out_again() -> None:
        world.session.ended("c1", "lease")
        world.session.claimed("c1", "lease-3", 3, 0.0)

    world.reader.asking = given_out_again
    assert await world.reconciler.run_once() == 0
    assert world.session.attempt("c1") == 3


async def test_a_given_up_attempt_whose_command_has_ended_unseen_is_stopped(world: World) -> None:
    for command_id in ("c2", "c3", "c4"):
        world.session.gave_up(command_id, "lease")
    world.reader.known["c1"] = state(attempt=2)
    world.reader.known["c2"] = state("c2", status=CommandStatus.QUEUED)
    world.reader.known["c3"] = state("c3", status=CommandStatus.CANCELLED)
    assert await world.reconciler.run_once() == 0
    assert world.agent.stopped == ["c3", "c4"]
    assert world.session.given_up == {"c2": ["lease"]}


async def test_given_up_attempts_are_read_in_pages(world: World) -> None:
    for number in range(MAX_COMMANDS_PER_READ + 1):
        world.session.gave_up(f"old{number}", "lease")
    world.reader.known["c1"] = state(attempt=2)
    await world.reconciler.run_once()
    assert (world.reader.reads, world.reader.largest) == (3, MAX_COMMANDS_PER_READ)
    assert world.session.given_up == {}


async def test_it_looks_when_asked(world: World) -> None:
    world.reader.known["c1"] = state(attempt=2)
    async with background(world.reconciler.run()):
        world.asked.set()
        await until(lambda: world.reader.reads == 1)


async def test_a_cancel_that_is_on_its_way_is_not_sent_again(world: World) -> None:
    world.reader.known["c1"] = state(attempt=2)._replace(cancel_ms=5)
    world.session.cancelling("c1", "enough")
    assert await world.reconciler.run_once() == 0
    assert world.agent.cancelled == []


async def test_an_agent_that_returns_with_commands_is_looked_at_at_once(world: World) -> None:
    world.reader.known["c1"] = state()._replace(cancel_ms=5)
    idle, returned = MemoryAgent("idle"), MemoryAgent("returned")
    returned.session.claimed("c1", "lease", 1, 0.0)
    returned.session.claimed("c2", "lease", 1, 0.0)
    async with background(world.reconciler.run_returned()):
        world.registry.add(idle)
        world.registry.add(returned)
        await until(lambda: returned.withdrawn)
    assert [command_id for command_id, _ in returned.cancelled] == ["c1"]
    assert [command_id for command_id, _ in returned.withdrawn] == ["c2"]
    assert (world.reader.reads, world.agent.withdrawn) == (1, [])


async def test_agents_that_return_are_looked_at_although_the_store_was_away(world: World) -> None:
    def fail() -> None:
        world.reader.asking = lambda: None
        raise Unavailable("Valkey is away")

    world.reader.asking = fail
    async with background(world.reconciler.run_returned()):
        for name in ("first", "second"):
            agent = MemoryAgent(name)
            agent.session.claimed("c1", "lease", 1, 0.0)
            world.registry.add(agent)
        await until(lambda: agent.withdrawn)
