from __future__ import annotations

import re

import pytest

from distributor.model.agent import HeldCommand, Renewal
from distributor.model.delivery import DueCommand, Progress
from distributor.model.lifecycle import CancelStage, CommandStatus
from distributor.store import keys
from tests.support.store_world import (
    AGENT,
    ENDING_KEYS,
    LEASE,
    StoreWorld,
    agent_index,
    changed,
    completion,
    own_keys,
    status_index,
)
from tests.support.waiting import PATIENCE_SECONDS

DELAYS = (25_000, 50_000, 100_000)


@pytest.mark.parametrize("status", CommandStatus)
async def test_nothing_happens_before_a_deadline(world: StoreWorld, status: CommandStatus) -> None:
    command_id = await world.command(status)
    before = await world.dump()
    next_ms, done = await world.store.due(DELAYS)
    assert done == []
    assert await world.dump() == before
    deadline = await world.deadline(command_id)
    if deadline is None:
        assert status.terminal
        assert next_ms is None
    else:
        assert next_ms is not None
        assert 0 <= deadline - await world.now_ms() <= next_ms


@pytest.mark.parametrize("status", CommandStatus)
async def test_what_a_passed_deadline_does_in_each_status(world: StoreWorld, status: CommandStatus) -> None:
    command_id = await world.command(status)
    before = await world.dump()
    await world.pass_deadline(command_id)
    _, done = await world.store.due(DELAYS)
    after, state = await world.dump(), await world.state(command_id)
    if status is CommandStatus.QUEUED:
        assert done == [(command_id, AGENT, CommandStatus.TIMEOUT)]
        assert (state.status, state.reason.code) == (CommandStatus.TIMEOUT, "expired")
        assert changed(before, after) == {
            *own_keys(command_id, *ENDING_KEYS),
            *agent_index(keys.READY),
            *status_index(CommandStatus.QUEUED, CommandStatus.TIMEOUT),
            keys.DEADLINES,
            keys.ENDED,
            keys.EVENTS,
        }
    elif status is CommandStatus.ASSIGNED:
        assert done == [(command_id, AGENT, CommandStatus.QUEUED)]
        assert (state.status, state.reason.code) == (CommandStatus.QUEUED, "not_acknowledged")
        assert changed(before, after) == {
            *own_keys(command_id, keys.STATUS),
            *agent_index(keys.ASSIGNED, keys.DELAYED),
            *status_index(CommandStatus.QUEUED, CommandStatus.ASSIGNED),
            keys.DEADLINES,
            keys.EVENTS,
        }
    else:
        assert done == [(command_id, AGENT, status)]
        assert after == before, "the stray deadline is gone, and that is all"


async def test_a_deadline_of_no_command_goes(world: StoreWorld) -> None:
    await world.connection.call("ZADD", keys.DEADLINES, 1, world.new_id())
    assert await world.store.due(DELAYS) == (None, [])
    assert await world.dump() == {}


async def test_acted_on_once(world: StoreWorld) -> None:
    command_id = await world.queued()
    await world.pass_deadline(command_id)
    await world.store.due(DELAYS)
    before = await world.dump()
    assert await world.store.due(DELAYS) == (None, [])
    assert await world.dump() == before


@pytest.mark.parametrize("seconds", [86_400, 100, 12])
async def test_an_expired_command_says_how_long_it_waited(world: StoreWorld, seconds: int) -> None:
    command_id = await world.queued()
    await world.set_field(command_id, "queued_us", (await world.now_ms() - seconds * 1_000) * 1_000)
    await world.pass_deadline(command_id)
    await world.store.due(DELAYS)
    (result,) = await world.reader.results([command_id])
    assert result is not None
    assert result.status is CommandStatus.TIMEOUT
    told = re.fullmatch(r"waited ([\d.]+) s in the queue, its limit", result.reason.message)
    assert told is not None, result.reason.message
    # It has waited on since it was put back.
    assert seconds <= float(told[1]) <= seconds + PATIENCE_SECONDS


async def test_each_unacknowledged_attempt_waits_longer_and_the_last_one_is_in_doubt(world: StoreWorld) -> None:
    command_id = await world.assigned()
    for attempt, delay_ms in enumerate(DELAYS[:2], start=1):
        await world.pass_deadline(command_id)
        _, done = await world.store.due(DELAYS)
        assert done == [(command_id, AGENT, CommandStatus.QUEUED)]
        deadline = await world.deadline(command_id)
        assert deadline is not None
        assert delay_ms - 15_000 < deadline - await world.now_ms() <= delay_ms
        assert (await world.state(command_id)).attempt == attempt
        await world.end_delay(command_id)
        await world.store.due(DELAYS)
        await world.claim()
    await world.pass_deadline(command_id)
    assert (await world.store.due(DELAYS))[1] == [(command_id, AGENT, CommandStatus.ASSIGNED)]
    state = await world.state(command_id)
    assert (state.attempt, state.reason.code) == (3, "unconfirmed")
    deadline = await world.deadline(command_id)
    assert deadline is not None
    longest = 300_000 + world.policy.run_limit_slack_ms
    assert longest - 15_000 < deadline - await world.now_ms() <= longest, "as long as it may run"
    await world.pass_deadline(command_id)
    assert (await world.store.due(DELAYS))[1] == [(command_id, AGENT, CommandStatus.TIMEOUT)]
    assert (await world.state(command_id)).reason.code == "agent_lost"


async def test_a_cancelled_one_that_nobody_acknowledged_may_run(world: StoreWorld) -> None:
    command_id = await world.assigned()
    await world.store.cancel(command_id, "enough")
    await world.pass_deadline(command_id)
    assert (await world.store.due(DELAYS))[1] == [(command_id, AGENT, CommandStatus.ASSIGNED)]
    state = await world.state(command_id)
    assert (state.reason.code, state.cancel_stage) == ("unconfirmed", CancelStage.UNCONFIRMED)
    await world.pass_deadline(command_id)
    await world.store.due(DELAYS)
    state = await world.state(command_id)
    assert (state.status, state.reason.code) == (CommandStatus.TIMEOUT, "agent_lost")
    assert state.cancel_stage is CancelStage.UNCONFIRMED


@pytest.mark.parametrize("started", [None, 3])
@pytest.mark.parametrize(
    ("present", "code"), [(True, "time_limit"), (False, "agent_lost")], ids=["agent present", "agent away"]
)
async def test_an_acknowledged_one_past_its_run_limit_has_timed_out(
    world: StoreWorld, started: int | None, present: bool, code: str
) -> None:
    command_id = await world.assigned(time_limit_ms=90_000)
    await world.store.progress([Progress(command_id, AGENT, LEASE, 1, 2, started)])
    if not present:
        await world.silence()
    await world.pass_deadline(command_id)
    assert (await world.store.due(DELAYS))[1] == [(command_id, AGENT, CommandStatus.TIMEOUT)]
    state = await world.state(command_id)
    assert (state.status, state.reason.code) == (CommandStatus.TIMEOUT, code)
    assert "90 s" in state.reason.message
    assert [outcome.value for outcome in await world.store.finish([completion(command_id)])] == ["late"]


async def test_a_detached_agent_is_away(world: StoreWorld) -> None:
    command_id = await world.acknowledged()
    await world.sessions.detach([(AGENT, world.epochs[AGENT])])
    await world.pass_deadline(command_id)
    await world.store.due(DELAYS)
    assert (await world.state(command_id)).reason.code == "agent_lost"


async def test_a_bounded_number_at_a_time_the_earliest_first(world: StoreWorld) -> None:
    ids = [await world.queued() for _ in range(5)]
    for score, command_id in enumerate(reversed(ids)):
        await world.pass_deadline(command_id)
        await world.connection.call("ZADD", keys.DEADLINES, score, command_id)
    next_ms, done = await world.store.due(DELAYS, limit=3)
    assert [command.command_id for command in done] == ids[:1:-1]
    assert next_ms == 0
    next_ms, done = await world.store.due(DELAYS, limit=3)
    assert [command.command_id for command in done] == ids[1::-1]
    assert next_ms is None


async def test_a_short_time_in_the_queue_by_the_clock(world: StoreWorld) -> None:
    """No deadline moved by hand: what is reported as the wait is the wait."""
    command_id = await world.queued(queue_ttl_ms=1)
    done: list[DueCommand] = []
    for _ in range(1_000):
        next_ms, done = await world.store.due(DELAYS)
        if done:
            break
        assert next_ms is not None
        assert next_ms <= 1
    assert done == [(command_id, AGENT, CommandStatus.TIMEOUT)]


@pytest.mark.parametrize("acknowledged", [True, False])
async def test_after_an_outage_an_agent_has_time_to_come_back(world: StoreWorld, acknowledged: bool) -> None:
    command_id = await (world.acknowledged() if acknowledged else world.assigned())
    await world.outage()
    await world.pass_deadline(command_id)
    before = await world.state(command_id)
    await world.store.due(DELAYS)
    assert await world.state(command_id) == before
    deadline = await world.deadline(command_id)
    assert deadline is not None
    assert world.policy.offline_after_ms - 15_000 < deadline - await world.now_ms() <= world.policy.offline_after_ms
    await world.attach(held=(HeldCommand(command_id, LEASE),))
    assert await world.store.finish([completion(command_id)]) == ["stored"]


async def test_after_an_outage_a_command_ends_whose_agent_stays_away(world: StoreWorld) -> None:
    command_id = await world.acknowledged()
    await world.outage()
    await world.pass_deadline(command_id)
    await world.store.due(DELAYS)
    await world.connection.call("HSET", keys.DUE_PASSES, "gap_ended_ms", await world.now_ms() - 60_000)
    await world.pass_deadline(command_id)
    assert (await world.store.due(DELAYS))[1] == [(command_id, AGENT, CommandStatus.TIMEOUT)]
    assert (await world.state(command_id)).reason.code == "agent_lost"


async def test_after_an_outage_an_agent_that_was_heard_has_no_more_time(world: StoreWorld) -> None:
    command_id = await world.acknowledged()
    await world.outage()
    await world.store.due(DELAYS)
    await world.next_millisecond()
    assert await world.sessions.heartbeat([Renewal(AGENT, world.epochs[AGENT])]) == [True]
    await world.pass_deadline(command_id)
    assert (await world.store.due(DELAYS))[1] == [(command_id, AGENT, CommandStatus.TIMEOUT)]
    assert (await world.state(command_id)).reason.code == "time_limit"


async def test_a_queued_command_expires_also_after_an_outage(world: StoreWorld) -> None:
    await world.attach()
    command_id = await world.queued()
    await world.outage()
    await world.pass_deadline(command_id)
    assert (await world.store.due(DELAYS))[1] == [(command_id, AGENT, CommandStatus.TIMEOUT)]


async def given_up_before_an_outage(world: StoreWorld) -> str:
    """The id of a queued command whose agent may run it, and could not have run on until the end of the outage."""
    command_id = await world.assigned()
    await world.pass_deadline(command_id)
    await world.store.due(DELAYS)
    assert (await world.state(command_id)).status is CommandStatus.QUEUED
    await world.outage()
    await world.set_field(command_id, "doubt_until", await world.now_ms() - 1_000)
    return command_id


@pytest.mark.parametrize("ended_by", ["expiry", "cancel", "expiry, then cancel", "cancel before any look"])
async def test_after_an_outage_the_agent_of_a_given_up_attempt_has_time_to_come_back(
    world: StoreWorld, ended_by: str
) -> None:
    command_id = await given_up_before_an_outage(world)
    if ended_by != "cancel before any look":
        await world.store.due(DELAYS)
    if "expiry" in ended_by:
        await world.pass_deadline(command_id)
        await world.store.due(DELAYS)
    if "cancel" in ended_by:
        await world.store.cancel(command_id, "enough")
    state = await world.state(command_id)
    assert (state.status, state.reason.code) == (CommandStatus.ASSIGNED, "unconfirmed")
    deadline = await world.deadline(command_id)
    assert deadline is not None
    assert world.policy.offline_after_ms - 15_000 < deadline - await world.now_ms() <= world.policy.offline_after_ms
    assert await world.store.finish([completion(command_id, ran=True)]) == ["stored"]


async def test_after_an_outage_a_given_up_attempt_ends_whose_agent_stays_away(world: StoreWorld) -> None:
    command_id = await given_up_before_an_outage(world)
    await world.store.cancel(command_id, "enough")
    await world.store.due(DELAYS)
    await world.connection.call("HSET", keys.DUE_PASSES, "gap_ended_ms", await world.now_ms() - 60_000)
    await world.pass_deadline(command_id)
    await world.store.due(DELAYS)
    state = await world.state(command_id)
    assert (state.status, state.reason.code) == (CommandStatus.TIMEOUT, "agent_lost")


async def test_a_look_at_deadlines_is_noted_only_now_and_then(world: StoreWorld) -> None:
    """With nothing due, most looks write nothing; the notes still show every gap."""
    await world.store.due(DELAYS)
    first = await world.connection.call("HGETALL", keys.DUE_PASSES)
    noted = await world.now_ms() + 60_000
    await world.connection.call("HSET", keys.DUE_PASSES, "last_ms", noted)
    await world.store.due(DELAYS)
    assert int(await world.connection.call("HGET", keys.DUE_PASSES, "last_ms")) == noted, first
    await world.connection.call("HSET", keys.DUE_PASSES, "last_ms", await world.now_ms() - 3_000)
    await world.store.due(DELAYS)
    last, gap_ended = await world.connection.call("HMGET", keys.DUE_PASSES, "last_ms", "gap_ended_ms")
    assert int(last) > await world.now_ms() - 3_000
    assert int(gap_ended) == 0


async def in_doubt(world: StoreWorld, orphan_after_ms: int) -> tuple[str, int]:
    """The id of a command in doubt, and the ms from when its agent was heard last until the doubt ends."""
    await world.attach(orphan_after_ms=orphan_after_ms)
    last = world.under(delivery_attempts=1)
    command_id = await last.assigned(time_limit_ms=300_000)
    await world.pass_deadline(command_id)
    await last.store.due(DELAYS)
    assert (await world.state(command_id)).reason.code == "unconfirmed"
    deadline = await world.deadline(command_id)
    seen = await world.connection.call("HGET", keys.SESSION.format(agent_id=AGENT), "last_seen_ms")
    assert deadline is not None
    return command_id, deadline - int(seen)


@pytest.mark.parametrize(("orphan_after_ms", "least_ms"), [(0, 320_000), (60_000, 80_000), (900_000, 320_000)])
async def test_doubt_ends_once_an_agent_without_a_server_has_stopped_its_work(
    world: StoreWorld, orphan_after_ms: int, least_ms: int
) -> None:
    _, doubt_ms = await in_doubt(world, orphan_after_ms)
    assert least_ms <= doubt_ms < least_ms + 15_000


async def test_an_agent_that_was_heard_meanwhile_is_no_orphan(world: StoreWorld) -> None:
    """It lasts as long as its agent reaches a server, up to the time limit."""
    command_id, _ = await in_doubt(world, 60_000)
    session = keys.SESSION.format(agent_id=AGENT)
    await world.connection.call("ZADD", keys.DEADLINES, 1, command_id)
    await world.connection.call("HSET", session, "last_seen_ms", await world.now_ms() - 30_000)
    await world.store.due(DELAYS)
    deadline = await world.deadline(command_id)
    assert deadline is not None
    assert 35_000 < deadline - await world.now_ms() <= 50_000
    await world.connection.call("ZADD", keys.DEADLINES, 1, command_id)
    await world.connection.call("HSET", session, "last_seen_ms", await world.now_ms() - 80_000)
    await world.store.due(DELAYS)
    state = await world.state(command_id)
    assert (state.status, state.reason.code) == (CommandStatus.TIMEOUT, "agent_lost")


async def test_a_command_with_a_status_of_a_later_version_is_left_to_that(world: StoreWorld) -> None:
    await world.attach()
    ids = [await world.queued() for _ in range(3)]
    for command_id in ids:
        await world.pass_deadline(command_id)
    await world.set_field(ids[0], "status", "paused")
    _, done = await world.store.due([0])
    assert {command.command_id for command in done} == set(ids[1:])
    assert (await world.hash(ids[0]))["status"] == "paused"
    deadline = await world.deadline(ids[0])
    assert deadline is not None
    assert deadline > 1
