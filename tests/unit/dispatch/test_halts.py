"""Emergency stops against the agents of one replica."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence

import pytest

from distributor.dispatch.agent_registry import AgentRegistry
from distributor.dispatch.halts import Halts
from distributor.dispatch.ports import StopStore
from distributor.dispatch.wakeups import Wakeups
from distributor.errors import Unavailable
from distributor.model.agent_report import LeaseRef
from distributor.model.emergency_stop import EmergencyStop
from distributor.model.halt import HaltedSession, HaltReport, SessionHalt
from distributor.model.stop_scope import StopScope
from distributor.observability.metrics import Metrics
from tests.support.memory_stores import MemoryAgent, MemoryStore

FIRST = EmergencyStop("s1", StopScope(selectors=("agent*",)), "leak", "tester", 1)
LATER = EmergencyStop("s2", StopScope(all=True), "", "tester", 2)


class Stops:
    """A StopStore with what a test puts into it."""

    def __init__(self) -> None:
        self.in_force: list[EmergencyStop] = []
        self.ended: list[tuple[str, str]] = []
        """Agents whose commands were to end, with the message."""
        self.reported: list[SessionHalt] = []
        self.known: list[HaltedSession] = []
        self.error: Exception | None = None

    async def stops(self) -> list[EmergencyStop]:
        return list(self.in_force)

    async def stop_commands(self, agents: Sequence[tuple[str, str]]) -> list[int]:
        self.ended += agents
        return [1] * len(agents)

    def halted(self, reports: Sequence[SessionHalt]) -> Awaitable[list[bool]]:
        answer: asyncio.Future[list[bool]] = asyncio.get_running_loop().create_future()
        if self.error:
            answer.set_exception(self.error)
        else:
            self.reported += reports
            answer.set_result([True] * len(reports))
        return answer

    async def sessions(self, scope: StopScope) -> AsyncIterator[list[HaltedSession]]:
        yield self.known

    async def stop(self, stop_id: str, scope: StopScope, reason: str, stopped_by: str) -> EmergencyStop:
        raise NotImplementedError

    async def resume(self, stop_ids: Sequence[str]) -> list[EmergencyStop]:
        raise NotImplementedError

    async def sessions_of(self, agent_ids: Sequence[str]) -> list[HaltedSession]:
        raise NotImplementedError


_stop_store: type[StopStore] = Stops


class World:
    def __init__(self) -> None:
        self.store, self.commands = Stops(), MemoryStore()
        self.registry, self.wakeups = AgentRegistry(Metrics()), Wakeups()
        self.changed = asyncio.Event()
        self.halts = Halts(self.store, self.commands, self.registry, self.wakeups, self.changed)

    def agent(self, agent_id: str = "agent123") -> MemoryAgent:
        agent = MemoryAgent(agent_id)
        self.registry.add(agent)
        return agent


@pytest.fixture
def world() -> World:
    return World()


async def test_agents_in_scope_are_halted_and_woken_at_the_end(world: World) -> None:
    agent, other = world.agent(), world.agent("other")
    world.store.in_force = [FIRST]
    await world.halts.run_once()
    assert (agent.stop, other.stop) == (FIRST, None)
    world.store.in_force = []
    await world.halts.run_once()
    assert agent.stop is None
    assert world.wakeups.take() == {"agent123"}


async def test_a_later_stop_takes_over_and_an_earlier_one_goes_on(world: World) -> None:
    agent = world.agent()
    world.store.in_force = [FIRST, LATER]
    await world.halts.run_once()
    assert agent.stop == LATER
    world.store.in_force = [FIRST]
    await world.halts.run_once()
    assert agent.stop == FIRST


async def test_what_was_not_sent_is_released(world: World) -> None:
    agent = world.agent()
    agent.unsent = [LeaseRef("c1", "lease")]
    world.store.in_force = [FIRST]
    await world.halts.run_once()
    (released,) = world.commands.released
    assert (released.command_id, released.unsent, released.counts) == ("c1", True, False)


async def test_the_end_of_commands_is_requested_once_for_each_stop(world: World) -> None:
    """Of all agents, also those that are attached to no replica."""
    world.store.known = [
        HaltedSession("away", True, False, True, None, assigned=2),
        HaltedSession("idle", True, False, True, None, assigned=0),
    ]
    world.store.in_force = [FIRST]
    await world.halts.run_once()
    await world.halts.run_once()
    assert world.store.ended == [("away", FIRST.message)]


async def test_a_stop_that_began_while_an_agent_attached_finds_it(world: World) -> None:
    world.store.in_force = [FIRST]
    await world.halts.run_once()
    agent = world.agent()
    world.halts.attached(agent)
    assert agent.stop == FIRST


async def test_an_agent_that_returns_with_commands_has_them_ended(world: World) -> None:
    agent = world.agent()
    agent.stop = FIRST
    agent.session.claimed("c1", "lease", 1, 0.0)
    world.store.in_force = [FIRST]
    world.halts.attached(agent)
    assert world.changed.is_set()
    await world.halts.run_once()
    assert world.store.ended == [("agent123", FIRST.message)]


async def test_a_report_that_could_not_be_stored_is_stored_later(world: World) -> None:
    agent, report = world.agent(), HaltReport("s1", 1)
    world.halts.reported(agent, report)
    world.store.error = Unavailable("Valkey is away")
    with pytest.raises(Unavailable):
        await world.halts.run_once()
    world.store.error = None
    await world.halts.run_once()
    assert world.store.reported == [SessionHalt("agent123", 1, report)]
