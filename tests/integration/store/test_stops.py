"""Emergency stops in Valkey: for whom they are, what they hold back, and what they end."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

import pytest

from distributor.dispatch.agent_registry import AgentRegistry
from distributor.dispatch.emergency_stops import EmergencyStops
from distributor.dispatch.halts import Halts
from distributor.dispatch.ports import StopStore
from distributor.dispatch.wakeups import Wakeups
from distributor.errors import FailedPrecondition
from distributor.model.agent import AgentHello
from distributor.model.delivery import ClaimRequest
from distributor.model.emergency_stop import MAX_STOPS, EmergencyStop
from distributor.model.event import StopsChanged
from distributor.model.halt import HaltedSession, HaltReport, HaltStatus, SessionHalt
from distributor.model.lifecycle import CommandStatus
from distributor.model.listing import CommandFilter
from distributor.model.queueing import QueueOutcome
from distributor.model.stop_request import scope_of
from distributor.model.stop_scope import StopScope
from distributor.observability.metrics import Metrics
from distributor.store import keys
from tests.support.store_world import AGENT, LEASE, StoreWorld, completion

ALL: Final = StopScope(all=True)
BEFORE: Final = 0
MOMENTS: Final = range(5)
"""Before each step of a stop (put in force, read, find agents, end their commands), and after the last."""
MANY_SECONDS: Final = 10.0
"""For 1,000 agents on a loaded machine; alone it takes less than one."""


async def stop(world: StoreWorld, stop_id: str = "s1", scope: StopScope = ALL) -> None:
    await world.stops.stop(stop_id, scope, "leak", "tester")


def stops_of(world: StoreWorld, store: StopStore | None = None) -> EmergencyStops:
    """The use cases on one replica."""
    store = store or world.stops
    halts = Halts(store, world.store, AgentRegistry(Metrics()), Wakeups(), asyncio.Event())
    return EmergencyStops(store, halts)


class SteppedStops:
    """A StopStore that lets a test act before each step of a stop, given the number of the step."""

    def __init__(self, store: StopStore, act: Callable[[int], Awaitable[None]]) -> None:
        self._store = store
        self._act = act
        self.taken: list[int] = []

    async def stop(self, stop_id: str, scope: StopScope, reason: str, stopped_by: str) -> EmergencyStop:
        await self._step()
        return await self._store.stop(stop_id, scope, reason, stopped_by)

    async def stops(self) -> list[EmergencyStop]:
        await self._step()
        return await self._store.stops()

    async def sessions(self, scope: StopScope) -> AsyncIterator[list[HaltedSession]]:
        await self._step()
        async for sessions in self._store.sessions(scope):
            yield sessions

    async def stop_commands(self, agents: Sequence[tuple[str, str]]) -> list[int]:
        if agents:
            await self._step()
        return await self._store.stop_commands(agents)

    async def resume(self, stop_ids: Sequence[str]) -> list[EmergencyStop]:
        return await self._store.resume(stop_ids)

    def halted(self, reports: Sequence[SessionHalt]) -> Awaitable[list[bool]]:
        return self._store.halted(reports)

    async def sessions_of(self, agent_ids: Sequence[str]) -> list[HaltedSession]:
        return await self._store.sessions_of(agent_ids)

    async def _step(self) -> None:
        self.taken.append(len(self.taken))
        await self._act(self.taken[-1])


async def test_nothing_is_queued_or_claimed_while_it_is_in_force(world: StoreWorld) -> None:
    await world.attach()
    waits = await world.queued()
    await stop(world)
    (refused,) = await world.enqueue(world.new())
    assert (refused.outcome, refused.stop_id) == (QueueOutcome.STOPPED, "s1")
    assert (await world.claim()).commands == []
    ping = await world.queued(kind="PING")
    (claim,) = await world.store.claim([ClaimRequest(AGENT, world.epochs[AGENT], 5, LEASE, 4)])
    assert [command.command_id for command in claim.commands] == [ping]
    await world.stops.resume(["s1"])
    assert [command.command_id for command in (await world.claim()).commands] == [waits]


async def test_a_request_that_was_queued_before_is_answered_as_before(world: StoreWorld) -> None:
    (queued,) = await world.enqueue(world.new(idempotency_key="key", digest="digest"))
    await stop(world)
    (again,) = await world.enqueue(world.new(idempotency_key="key", digest="digest"))
    assert (again.outcome, again.command_id) == (QueueOutcome.ALREADY_QUEUED, queued.command_id)


async def test_what_was_assigned_ends_as_stopped_whatever_its_agent_says_of_the_cancel(world: StoreWorld) -> None:
    command_id = await world.acknowledged()
    await stop(world)
    assert await world.stops.stop_commands([(AGENT, "emergency stop s1"), ("other", "")]) == [1, 0]
    assert await world.stops.stop_commands([(AGENT, "emergency stop s1")]) == [0], "requested once"
    assert (await world.state(command_id)).reason.code == "cancel_requested"
    world.told.clear()
    await world.store.finish([completion(command_id, CommandStatus.CANCELLED)])
    (result,) = await world.reader.results([command_id])
    assert result is not None
    assert (result.reason.code, result.reason.message) == ("emergency_stop", "emergency stop s1")
    (told,) = world.told[-1].events
    assert told.reason == result.reason, "the event that is derived from the reply says the same"  # type: ignore[union-attr]


async def test_without_a_stop_nothing_is_ended(world: StoreWorld) -> None:
    await world.acknowledged()
    assert await world.stops.stop_commands([(AGENT, "emergency stop s1")]) == [-1]


async def test_a_repeated_request_is_the_same_stop(world: StoreWorld) -> None:
    first = await world.stops.stop("s1", ALL, "leak", "tester")
    assert await world.stops.stop("s1", StopScope(selectors=("a",)), "other", "nobody") == first
    assert [event for event in await world.events() if isinstance(event, StopsChanged)] == [StopsChanged("s1")]


async def test_there_may_be_only_so_many(world: StoreWorld) -> None:
    for number in range(MAX_STOPS):
        await stop(world, f"s{number}", StopScope(selectors=("none",)))
    with pytest.raises(FailedPrecondition):
        await stop(world, "one more")


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"since_ms":1,"scope":{"kind":"later"}}', b"\xff"])
async def test_a_stop_that_cannot_be_read_is_for_all(world: StoreWorld, text: bytes) -> None:
    await world.connection.call("HSET", keys.STOPS, "odd", text)
    (refused,) = await world.enqueue(world.new())
    assert (refused.outcome, refused.stop_id) == (QueueOutcome.STOPPED, "odd")
    (read,) = await world.stops.stops()
    assert read.scope.all
    await world.stops.resume(["odd"])
    assert await world.stops.stops() == []


async def test_the_functions_select_the_same_agents_as_the_model(world: StoreWorld) -> None:
    """Selectors and agents of few letters, so that many match."""
    draw = random.Random(7)

    def text(letters: str, most: int) -> str:
        return "".join(draw.choices(letters, k=draw.randint(1, most)))

    outcomes = set()
    for number in range(150):
        agent_id, labels = text("ab-", 6), {"k": text("ab*é", 4)}
        hello = AgentHello(agent_id, f"instance{number}", 5, (), labels, "", ())
        epoch = (await world.sessions.attach(hello)).epoch
        selectors = [draw.choice([text("ab-*", 5), f"k={text('ab*é', 4)}", "z=a*"]) for _ in range(draw.randint(1, 2))]
        scope = scope_of(False, selectors)
        expected = scope.matches(agent_id, labels)
        await stop(world, "s1", scope)
        (answer,) = await world.enqueue(world.new(agent_id))
        assert (answer.outcome is QueueOutcome.STOPPED) == expected, (agent_id, labels, selectors)
        in_force = (await world.sessions.attach(hello._replace(instance_id=hello.instance_id))).stop
        assert (in_force is not None) == expected
        await world.stops.resume(["s1"])
        await world.sessions.detach([(agent_id, epoch + 1)])
        outcomes.add(expected)
    assert outcomes == {True, False}


@pytest.mark.parametrize(
    ("queued_at", "claimed_at"), [(first, second) for first in MOMENTS for second in MOMENTS if first <= second]
)
async def test_no_start_slips_through_at_any_moment(world: StoreWorld, queued_at: int, claimed_at: int) -> None:
    """Valkey runs one function at a time: all orders are those in which one comes before each step of the stop."""
    claimed = [await world.acknowledged()]
    earlier = await world.queued()
    outcomes: list[QueueOutcome] = []

    async def act(moment: int) -> None:
        if moment == queued_at:
            (answer,) = await world.enqueue(world.new())
            outcomes.append(answer.outcome)
        if moment == claimed_at:
            claimed.extend(command.command_id for command in (await world.claim()).commands)

    steps = SteppedStops(world.stops, act)
    await stops_of(world, steps).stop("s1", ALL, "", "")
    assert steps.taken == list(range(len(MOMENTS) - 1)), "each moment but the last is before a step"
    await act(MOMENTS[-1])
    assert outcomes == [QueueOutcome.QUEUED if queued_at == BEFORE else QueueOutcome.STOPPED]
    assert (earlier in claimed) == (claimed_at == BEFORE), "claimed only before the stop"
    for state in await world.reader.states(claimed):
        assert state is not None
        assert state.cancel_ms, "claimed before the stop, and so ended by it"
    assert (await world.claim()).commands == []


@pytest.mark.parametrize("seed", range(3))
async def test_no_start_slips_through_under_load(world: StoreWorld, seed: int) -> None:
    """Queueing, claims and the stop are under way together, in an order that differs with each seed.

    More is queued than is claimed, so that a claim after the stop always finds something to withhold.
    """
    draw = random.Random(seed)
    await world.attach()
    claimed: list[str] = []
    await world.enqueue(*(world.new() for _ in range(20)))

    async def queue_and_claim() -> None:
        await asyncio.sleep(draw.random() * 0.01)
        await world.enqueue(world.new())
        claim = await world.claim(max_commands=1)
        claimed.extend(command.command_id for command in claim.commands)

    async def stop_now() -> None:
        await asyncio.sleep(draw.random() * 0.01)
        await stops_of(world).stop("s1", ALL, "", "")

    await asyncio.gather(*(queue_and_claim() for _ in range(20)), stop_now())
    # Nothing that was claimed is left without a cancel, also if the claim was answered after the stop.
    for state in await world.reader.states(claimed):
        assert state is not None
        assert state.cancel_ms, "claimed before the stop, and so ended by it"
    assert (await world.claim()).commands == []
    (refused,) = await world.enqueue(world.new())
    assert refused.outcome is QueueOutcome.STOPPED


async def test_a_thousand_agents_are_stopped_at_once(world: StoreWorld) -> None:
    agent_ids = [f"agent-{number:04}" for number in range(1_000)]
    hellos = [AgentHello(one, "instance", 5, (), {}, "", (), knows_halts=True) for one in agent_ids]
    epochs = [attached.epoch for attached in await asyncio.gather(*map(world.sessions.attach, hellos))]
    await world.enqueue(*(world.new(agent_id) for agent_id in agent_ids))
    requests = [ClaimRequest(one, epoch, 5, LEASE) for one, epoch in zip(agent_ids, epochs, strict=True)]
    assert sum(len(claim.commands) for claim in await world.store.claim(requests)) == 1_000
    stops = stops_of(world)
    began = time.monotonic()
    begun = await stops.stop("s1", ALL, "leak", "tester")
    assert time.monotonic() - began < MANY_SECONDS
    first = [one async for agents, _ in stops.watch("s1", 0) for one in agents]
    assert [one.status for one in first] == [HaltStatus.STOPPING] * 1_000
    said = [
        SessionHalt(one, epoch, HaltReport("s1", begun.since_ms)) for one, epoch in zip(agent_ids, epochs, strict=True)
    ]
    await world.stops.halted(said)
    reports = [one async for agents, _ in stops.watch("s1", 20) for one in agents]
    assert [one.status for one in reports] == [HaltStatus.CONFIRMED] * 1_000
    states = await world.reader.page(CommandFilter(statuses=(CommandStatus.ASSIGNED,)), "", 1_000)
    assert all(state.cancel_ms for state in states.items)
