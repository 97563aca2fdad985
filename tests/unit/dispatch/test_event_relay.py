"""What one event means to watchers, agents and the distributor."""

from __future__ import annotations

import asyncio
import logging

import pytest

from distributor.dispatch.agent_registry import AgentRegistry
from distributor.dispatch.event_relay import MAX_UNANSWERED, MAX_UNREAD, EventRelay
from distributor.dispatch.wakeups import Wakeups
from distributor.dispatch.watches import Watches
from distributor.model.event import CommandReady, Event, EventBatch, EventKind
from distributor.model.in_flight import InFlight
from distributor.model.lifecycle import CommandStatus
from distributor.observability.metrics import Metrics
from tests.support.memory_stores import (
    MemoryAgent,
    MemoryEventLog,
    agent_changed,
    changed,
    output_arrived,
    state,
)
from tests.support.own_logs import own_logs
from tests.support.serving_agent import background
from tests.support.waiting import until

HERE, ELSEWHERE = "replica-1", "replica-2"


class World:
    """A relay of the first replica, with one agent attached."""

    def __init__(self) -> None:
        self.log = MemoryEventLog()
        self.metrics = Metrics()
        self.registry = AgentRegistry(self.metrics)
        self.wakeups = Wakeups()
        self.watches = Watches(self.metrics)
        self.agent = MemoryAgent()
        self.registry.add(self.agent)
        self.relay = EventRelay(self.log, HERE, self.registry, self.wakeups, self.watches, self.metrics)

    def tell(self, *batch: Event, origin: str = ELSEWHERE, position: str = "1-0") -> None:
        self.relay.relay(EventBatch(position, origin, batch))

    def finished(self, status: str) -> float:
        return self.metrics.registry.get_sample_value("distributor_commands_finished_total", {"status": status}) or 0.0


@pytest.fixture
async def world() -> World:
    return World()


QUEUED = changed(EventKind.QUEUED, state(status=CommandStatus.QUEUED))
RELEASED = changed(EventKind.RELEASED, state(status=CommandStatus.QUEUED, reason="not_acknowledged"))


async def test_a_command_that_another_server_queued_rings_the_bell(world: World) -> None:
    world.tell(QUEUED)
    assert world.wakeups.take() == {"agent123"}


async def test_a_command_that_we_queued_has_rung_it_already(world: World) -> None:
    world.tell(QUEUED, origin=HERE)
    assert world.wakeups.take() == set()


@pytest.mark.parametrize("origin", [HERE, ELSEWHERE])
async def test_a_released_command_rings_the_bell_whoever_released_it(world: World, origin: str) -> None:
    world.tell(RELEASED, origin=origin)
    assert world.wakeups.take() == {"agent123"}
    assert (world.agent.cancelled, world.agent.withdrawn) == ([], [])


async def test_commands_of_agents_that_are_not_here_are_no_concern_of_ours(world: World) -> None:
    for kind in EventKind:
        if kind not in (EventKind.AGENT, EventKind.OUTPUT, EventKind.READY):
            world.tell(changed(kind, state(agent_id="elsewhere")))
    world.tell(CommandReady("c1", "elsewhere", "PING"))
    assert world.wakeups.take() == set()
    assert (world.agent.cancelled, world.agent.withdrawn) == ([], [])


@pytest.mark.parametrize("origin", [HERE, ELSEWHERE])
@pytest.mark.parametrize(("kind", "control"), [("PRINT", set()), ("PING", {"agent123"})])
async def test_the_end_of_a_delay_wakes_the_distributor(
    world: World, origin: str, kind: str, control: set[str]
) -> None:
    world.tell(CommandReady("c1", "agent123", kind), origin=origin)
    assert (world.wakeups.take(), world.wakeups.take_control()) == ({"agent123"}, control)


async def test_a_cancel_is_handed_to_the_agent(world: World) -> None:
    world.tell(changed(EventKind.CANCEL_REQUESTED, state(reason="enough")))
    assert world.agent.cancelled == [("c1", "enough")]


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (EventKind.FINISHED, CommandStatus.TIMEOUT),
        (EventKind.FINISHED, CommandStatus.FAILED),
        (EventKind.RELEASED, CommandStatus.QUEUED),
    ],
)
async def test_what_a_deadline_took_away_makes_room_and_is_stopped_if_it_has_ended(
    world: World, kind: EventKind, status: CommandStatus
) -> None:
    world.agent.session.claimed("c1", "lease", 1, 0.0)
    world.tell(changed(kind, state(status=status, reason="time_limit")))
    assert (world.agent.withdrawn, world.agent.cancelled) == ([("c1", "time_limit")], [])
    # What goes back to the queue comes to this agent again: it may go on with what it runs.
    assert world.agent.stopped == (["c1"] if status.terminal else [])
    assert world.agent.session.in_flight == {}
    assert world.wakeups.take() == {"agent123"}


async def test_an_older_attempt_that_was_taken_away_does_not_touch_the_newer(world: World) -> None:
    world.agent.session.claimed("c1", "lease-2", 2, 0.0)
    world.tell(changed(EventKind.RELEASED, state(status=CommandStatus.QUEUED, attempt=1)))
    assert (world.agent.cancelled, world.agent.withdrawn) == ([], [])
    assert set(world.agent.session.in_flight) == {"c1"}


async def test_the_end_by_an_older_attempt_ends_the_newer(world: World) -> None:
    world.agent.session.claimed("c1", "lease-2", 2, 0.0)
    world.tell(changed(EventKind.FINISHED, state(status=CommandStatus.COMPLETED, attempt=1)))
    assert world.agent.stopped == ["c1"]
    assert world.agent.session.in_flight == {}


@pytest.mark.parametrize("origin", [HERE, ELSEWHERE])
async def test_the_end_of_a_command_stops_its_given_up_attempts_whoever_ended_it(world: World, origin: str) -> None:
    world.agent.session.gave_up("c1", "lease")
    world.agent.session.gave_up("c2", "lease")
    world.tell(RELEASED, origin=origin)
    assert world.agent.stopped == []
    for _ in range(2):
        world.tell(changed(EventKind.FINISHED, state(status=CommandStatus.CANCELLED, reason="enough")), origin=origin)
    assert (world.agent.stopped, world.agent.withdrawn) == (["c1"], [("c1", "enough")])
    assert world.agent.session.given_up == {"c2": ["lease"]}


async def test_only_our_own_endings_are_counted(world: World) -> None:
    ended = changed(EventKind.FINISHED, state(status=CommandStatus.COMPLETED))
    world.tell(ended, origin=ELSEWHERE)
    assert world.finished("completed") == 0
    world.tell(ended, origin=HERE)
    assert world.finished("completed") == 1


async def test_a_newer_session_elsewhere_has_ours_claim_and_so_ask_the_store(world: World) -> None:
    """The event alone ends nothing: it may be from before the store was emptied, and the epochs started again."""
    world.tell(agent_changed(epoch=1))
    world.tell(agent_changed(agent_id="another", epoch=9))
    assert world.wakeups.take() == set()
    world.tell(agent_changed(epoch=2))
    assert (world.wakeups.take(), world.wakeups.take_control()) == ({"agent123"}, {"agent123"})
    assert world.agent.farewells == []


async def test_watchers_are_told_of_each_fact(world: World) -> None:
    watch = world.watches.open(["c1", "c2"])
    world.tell(QUEUED, changed(EventKind.ASSIGNED, state("c2")), output_arrived())
    states, unread, output = watch.take()
    assert ([one.command_id for one in states], unread, output) == (["c1", "c2"], {}, True)


async def test_a_change_as_old_as_the_last_before_a_watch_must_be_read(world: World) -> None:
    """A later one may have come before the watch opened."""
    world.tell(changed(EventKind.STARTED, state("c2")), position="5-0")
    watch = world.watches.open()
    world.tell(QUEUED, position="5-1")
    assert list(watch.take().unread) == ["c1"]
    world.tell(changed(EventKind.QUEUED, state("c3", CommandStatus.QUEUED)), position="6-0")
    assert [one.command_id for one in watch.take().states] == ["c3"]


async def test_the_loop_begins_at_the_newest_event_and_goes_on_where_it_was(world: World) -> None:
    world.relay.wait_after_failure_seconds = 0.001
    await world.relay.catch_up()
    async with background(world.relay.run()):
        await until(world.log.tailing.is_set)
        watch = world.watches.open(["c1"])
        world.log.put(EventBatch("8-0", ELSEWHERE, [QUEUED]))
        await watch.wait()
        stale_at_first = watch.stale
        watch.take()
        world.log.fail()
        # Something may have been missed, so the watcher reads anew.
        await watch.wait()
        assert (stale_at_first, watch.stale) == (False, True)
        await until(lambda: world.log.positions_read == ["7-0", "8-0"])


async def test_a_watch_opened_before_the_loop_begins_misses_nothing(world: World) -> None:
    await world.relay.catch_up()
    watch = world.watches.open(["c1"])
    async with background(world.relay.run()):
        await until(world.log.tailing.is_set)
        assert not watch.stale


async def test_the_end_of_an_outage_is_told_where_nothing_happens(world: World) -> None:
    world.relay.wait_after_failure_seconds = 0.001
    with own_logs() as logs:
        async with background(world.relay.run()):
            world.log.fail()
            await until(lambda: len(world.log.positions_read) == 2)
    assert [line["event"] for line in logs] == ["cannot read events", "can read events again"]


async def test_what_happened_before_an_agent_kept_a_command_does_not_touch_it(world: World) -> None:
    """The agent came back and holds the command still, under the same attempt, after a deadline had released it."""
    kept = InFlight("lease", 1, 0.0)
    kept.revision = 5
    world.agent.session.adopted("c1", kept)
    released = changed(EventKind.RELEASED, state(status=CommandStatus.QUEUED, revision=4))
    world.tell(released)
    world.tell(released._replace(revision=5))
    assert "c1" in world.agent.session.in_flight
    assert (world.agent.cancelled, world.agent.withdrawn) == ([], [])
    world.tell(released._replace(revision=6))
    assert world.agent.session.in_flight == {}


async def test_missed_events_send_everybody_to_look_for_himself(world: World) -> None:
    watch = world.watches.open(["c1"])
    async with background(world.relay.run()):
        await world.log.tailing.wait()
        watch.take()
        watch.stale = False
        world.wakeups.take()
        world.log.put(EventBatch("7-0", "", (), missed=True))
        await until(world.relay.missed.is_set)
    assert watch.stale
    assert world.wakeups.take() == {"agent123"}


async def test_own_changes_are_relayed_from_the_reply_and_skipped_when_they_are_read(world: World) -> None:
    ended, later = ended_here("9-0", "c1"), ended_here("11-0", "c3")
    await world.relay.catch_up()
    world.relay.relay_own(EventBatch("8-0", HERE, []))
    world.relay.relay_own(ended)
    world.relay.relay_own(later)
    assert world.finished("completed") == 2
    async with background(world.relay.run()):
        for batch in (ended, later):
            world.log.put(batch)
        world.log.put(EventBatch("12-0", ELSEWHERE, [QUEUED]))
        await until(lambda: world.wakeups.take() == {"agent123"})
    assert world.finished("completed") == 2


async def test_an_own_change_that_is_read_before_its_reply_is_relayed_once(world: World) -> None:
    ended, unanswered = ended_here("9-0", "c1"), ended_here("10-0", "c2")
    await world.relay.catch_up()
    async with background(world.relay.run()):
        world.log.put(ended)
        world.log.put(EventBatch("9-1", ELSEWHERE, [QUEUED]))
        await until(lambda: world.wakeups.take() == {"agent123"})
        world.relay.relay_own(ended)
        assert world.finished("completed") == 1
        world.relay.lost_reply_seconds = 0.001
        world.log.put(unanswered)
        await until(lambda: world.finished("completed") == 2)


async def test_an_own_change_whose_reply_comes_late_is_counted_and_logged_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    late, lost = ended_here("9-0", "c1"), ended_here("10-0", "c2")
    world.relay.lost_reply_seconds = 0.001
    await world.relay.catch_up()
    with caplog.at_level(logging.DEBUG):
        async with background(world.relay.run()):
            world.log.put(late)
            world.log.put(lost)
            await until(lambda: world.finished("completed") == 2)
            world.relay.relay_own(late)
            world.relay.relay_own(ended_here("11-0", "c3"))
    assert world.finished("completed") == 3
    assert len([line for line in caplog.messages if line.startswith("command changed")]) == 3


async def test_an_own_change_without_a_reply_is_relayed_only_once_it_is_durable(world: World) -> None:
    world.relay.lost_reply_seconds = 0.0
    await world.relay.catch_up()
    world.log.durable.clear()
    world.log.not_durable = 2
    async with background(world.relay.run()):
        world.log.put(ended_here("9-0", "c1"))
        await until(lambda: world.log.settling == 1)
        assert world.finished("completed") == 0
        world.log.durable.set()
        await until(lambda: world.finished("completed") == 1)
    assert world.log.settling == 3


async def test_a_reply_that_comes_while_its_change_becomes_durable_is_relayed_once(world: World) -> None:
    world.relay.lost_reply_seconds = 0.0
    await world.relay.catch_up()
    world.log.durable.clear()
    ended = ended_here("9-0", "c1")
    async with background(world.relay.run()):
        world.log.put(ended)
        await until(lambda: world.log.settling == 1)
        world.relay.relay_own(ended)
        world.log.durable.set()
        await loop_turns()
    assert world.finished("completed") == 1


async def test_own_changes_that_never_become_durable_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distributor.dispatch.event_relay.MAX_UNREAD", 3)
    await world.relay.catch_up()
    async with background(world.relay.run()):
        for number in range(9, 14):
            world.log.put(ended_here(f"{number}-0", "c1"))
        await until(world.relay.missed.is_set)
        assert len(world.relay._early) < 3


async def test_replies_that_never_come_are_forgotten(world: World) -> None:
    world.relay.lost_reply_seconds = 0.0
    await world.relay.catch_up()
    lost = [ended_here(f"{number}-0", "c1") for number in range(10, 13 + MAX_UNANSWERED)]
    async with background(world.relay.run()):
        for batch in lost:
            world.log.put(batch)
        await until(lambda: world.finished("completed") == len(lost))
    # Had the first not been forgotten, its reply would not be relayed.
    world.relay.relay_own(lost[0])
    assert world.finished("completed") == len(lost) + 1
    world.relay.relay_own(lost[-1])
    assert world.finished("completed") == len(lost) + 1


async def test_an_own_change_that_was_never_read_does_not_have_others_relayed_twice(world: World) -> None:
    """A Valkey that was emptied may have an earlier clock, so that its events have earlier positions."""
    world.relay.lost_reply_seconds = 0.0
    await world.relay.catch_up()
    world.relay.relay_own(ended_here("900-0", "c1"))
    own = [ended_here(f"{number}-0", f"c{number}") for number in (8, 9)]
    for batch in own:
        world.relay.relay_own(batch)
    async with background(world.relay.run()):
        for batch in [*own, EventBatch("10-0", ELSEWHERE, [QUEUED])]:
            world.log.put(batch)
        await until(lambda: world.wakeups.take() == {"agent123"})
        await loop_turns()
    assert world.finished("completed") == 3


async def test_own_changes_that_cannot_be_read_are_bounded_and_counted_once(world: World) -> None:
    world.relay.wait_after_failure_seconds = world.relay.lost_reply_seconds = 0.0
    await world.relay.catch_up()
    watch = world.watches.open(["c1"])
    own = [ended_here(f"{number}-0", f"c{number}") for number in range(8, 10 + MAX_UNREAD)]
    async with background(world.relay.run()):
        await world.log.tailing.wait()
        for batch in own:
            world.relay.relay_own(batch)
        assert len(world.relay._relayed) == MAX_UNREAD
        world.log.newest = own[-1].position
        world.log.fail()
        await until(world.relay.missed.is_set)
        assert (watch.stale, world.wakeups.take()) == (True, {"agent123"})
        for batch in [*own, ended_here("90000-0", "c1"), EventBatch("90001-0", ELSEWHERE, [QUEUED])]:
            world.log.put(batch)
        await until(lambda: world.wakeups.take() == {"agent123"})
        await loop_turns()
    assert world.log.positions_read == ["7-0", own[-1].position]
    assert world.finished("completed") == len(own) + 1, "only that whose reply was lost came from the stream"


async def test_the_rest_of_an_old_read_is_not_relayed_after_missed_events(world: World) -> None:
    await world.relay.catch_up()
    world.log.newest = "20-0"
    async with background(world.relay.run()):
        world.log.put(EventBatch("8-0", "", (), missed=True))
        world.log.put(EventBatch("9-0", ELSEWHERE, [changed(EventKind.CANCEL_REQUESTED, state())]))
        await until(world.relay.missed.is_set)
        world.wakeups.take()
        world.log.put(EventBatch("21-0", ELSEWHERE, [QUEUED]))
        await until(lambda: world.wakeups.take() == {"agent123"})
    assert world.agent.cancelled == []


async def test_missed_events_are_no_lag(world: World) -> None:
    """An emptied Valkey has the position 0-0, which is no time."""
    world.log.newest = "0-0"
    async with background(world.relay.run()):
        world.log.put(EventBatch("0-0", "", (), missed=True))
        await until(world.relay.missed.is_set)
    assert world.metrics.registry.get_sample_value("distributor_events_lag_seconds") == 0.0


async def loop_turns() -> None:
    """Let what is due now happen."""
    for _ in range(3):
        await asyncio.sleep(0)


def ended_here(position: str, command_id: str) -> EventBatch:
    """This replica has completed a command."""
    return EventBatch(position, HERE, [changed(EventKind.FINISHED, state(command_id, CommandStatus.COMPLETED))])
