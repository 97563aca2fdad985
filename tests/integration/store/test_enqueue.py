from __future__ import annotations

import pytest

from distributor.model.agent import AgentPresence
from distributor.model.command import OfflinePolicy, Reason
from distributor.model.delivery import ClaimRequest, CompletionOutcome, Release
from distributor.model.lifecycle import CommandStatus
from distributor.model.queueing import NewCommand, QueueOutcome
from distributor.store import keys
from tests.support.store_world import (
    AGENT,
    ENCODED,
    ENDING_KEYS,
    LEASE,
    StoreWorld,
    agent_index,
    changed,
    completion,
    own_keys,
    status_index,
)

DIGEST, OTHER_DIGEST = "d" * 64, "e" * 64


def keyed(world: StoreWorld, digest: str = DIGEST, key: str = "order-1") -> NewCommand:
    return world.new(digest=digest, idempotency_key=key)


async def claimed_ids(world: StoreWorld) -> list[str]:
    return [command.command_id for command in (await world.claim(max_commands=100)).commands]


async def test_all_that_a_queued_command_is(world: StoreWorld) -> None:
    before = await world.dump()
    new = world.new(
        kind="EXEC", priority=75, params_summary="ls -l", time_limit_ms=1_000, queue_ttl_ms=2_000, max_runs=3
    )
    (answer,) = await world.enqueue(new)
    after = await world.dump()
    assert (answer.outcome, answer.command_id) == (QueueOutcome.QUEUED, new.command_id)
    assert answer.agent == AgentPresence(known=False, present=False, away_since_ms=0)
    assert abs(answer.queued_ms - await world.now_ms()) < 10_000
    fields = await world.hash(new.command_id)
    assert int(fields.pop("queued_us")) // 1000 == answer.queued_ms
    fields.pop("rank")
    assert fields == {
        "status": "queued",
        "agent_id": AGENT,
        "type": "EXEC",
        "priority": "75",
        "attempt": "0",
        "revision": "1",
        "queued_ms": str(answer.queued_ms),
        "expires_ms": str(answer.queued_ms + 2_000),
        "time_limit_ms": "1000",
        "max_runs": "3",
        "params_summary": "ls -l",
    }
    assert (await world.details(new.command_id)).encoded == ENCODED
    fixed = own_keys(new.command_id, keys.COMMAND, keys.STATUS, keys.AGENT_COMMAND)
    assert not any(after[name][2] for name in fixed), "nothing of a live command may expire"
    assert changed(before, after) == {
        *fixed,
        *agent_index(keys.READY, keys.AGENT_COMMANDS),
        *status_index(CommandStatus.QUEUED),
        keys.DEADLINES,
        keys.EVENTS,
    }


@pytest.mark.parametrize("status", CommandStatus)
async def test_the_same_request_again_is_the_same_command(world: StoreWorld, status: CommandStatus) -> None:
    first = keyed(world)
    if status is not CommandStatus.QUEUED:
        await world.attach()
    await world.enqueue(first)
    if status is not CommandStatus.QUEUED:
        await world.claim()
        await world.set_field(first.command_id, "status", status)
    before = await world.dump()
    (again,) = await world.enqueue(keyed(world))
    assert (again.outcome, again.command_id) == (QueueOutcome.ALREADY_QUEUED, first.command_id)
    (taken,) = await world.enqueue(keyed(world, OTHER_DIGEST))
    assert (taken.outcome, taken.command_id) == (QueueOutcome.KEY_TAKEN, first.command_id)
    assert await world.dump() == before


async def test_idempotency_within_one_call(world: StoreWorld) -> None:
    first = keyed(world)
    answers = await world.enqueue(first, keyed(world), keyed(world, OTHER_DIGEST), keyed(world, key="order-2"))
    assert [answer.outcome for answer in answers] == [
        QueueOutcome.QUEUED,
        QueueOutcome.ALREADY_QUEUED,
        QueueOutcome.KEY_TAKEN,
        QueueOutcome.QUEUED,
    ]
    assert [answer.command_id for answer in answers[:3]] == [first.command_id] * 3
    await world.attach()
    assert await claimed_ids(world) == [first.command_id, answers[3].command_id]


async def test_a_key_is_remembered_for_its_time_and_not_for_a_refused_command(world: StoreWorld) -> None:
    full = world.under(queue_limit=0)
    before = await world.dump()
    (refused,) = await full.enqueue(keyed(world))
    assert refused.outcome is QueueOutcome.QUEUE_FULL
    assert await world.dump() == before
    (answer,) = await world.enqueue(keyed(world))
    assert answer.outcome is QueueOutcome.QUEUED
    ttl = await world.connection.call("PTTL", keys.IDEMPOTENCY.format(key="order-1"))
    assert 0 < ttl <= world.policy.idempotency_ms


async def test_priority_first_then_arrival_within_and_between_calls(world: StoreWorld) -> None:
    await world.attach()
    normal, high, low, also_normal = (world.new(priority=priority) for priority in (50, 75, 25, 50))
    await world.enqueue(normal, high, low, also_normal)
    last, highest = world.new(priority=50), world.new(priority=100)
    await world.enqueue(last)
    await world.enqueue(highest)
    expected = [highest, high, normal, also_normal, last, low]
    assert await claimed_ids(world) == [command.command_id for command in expected]


async def test_arrivals_within_a_call_are_in_order(world: StoreWorld) -> None:
    """A microsecond apart, up to the end of the millisecond of the receipt; from there on ids keep the order."""
    commands = [world.new() for _ in range(100)]
    queued_ms = (await world.enqueue(*commands))[0].queued_ms
    arrivals = [int((await world.hash(command.command_id))["queued_us"]) for command in commands]
    assert arrivals == [min(arrivals[0] + place, queued_ms * 1_000 + 999) for place in range(100)]
    await world.attach()
    assert await claimed_ids(world) == [command.command_id for command in commands]


async def test_a_command_that_waits_overtakes_a_higher_priority(world: StoreWorld) -> None:
    """With nothing to gain by waiting, priority rules; where a microsecond is worth a point, arrival does."""
    await world.attach()
    ageless = [await world.queued(priority=50), await world.queued(priority=51)]
    assert await claimed_ids(world) == ageless[::-1]
    ageing = world.under(ageing_ms_per_priority=0)
    assert [await ageing.queued(priority=50), await ageing.queued(priority=51)] == await claimed_ids(world)


async def test_a_type_that_the_agent_has_no_handler_for(world: StoreWorld) -> None:
    await world.attach(types=("PING", "EXEC"))
    before = await world.dump()
    answers = await world.enqueue(*(world.new(kind=kind) for kind in ("EXE", "XEC", "ping")))
    assert {answer.outcome for answer in answers} == {QueueOutcome.UNSUPPORTED_TYPE}
    assert await world.dump() == before
    await world.queued(kind="EXEC")
    await world.queued("other", kind="WHATEVER")


async def test_an_agent_that_is_away_may_come_back_with_other_types(world: StoreWorld) -> None:
    for agent_id in ("gone", "silent"):
        await world.attach(agent_id, types=("PING",))
    await world.sessions.detach([("gone", world.epochs["gone"])])
    await world.silence("silent")
    for agent_id in ("gone", "silent"):
        await world.queued(agent_id, kind="EXEC")


async def test_a_command_that_is_not_to_wait_for_an_agent_that_is_away(world: StoreWorld) -> None:
    await world.attach()
    await world.attach("silent")
    await world.attach("gone")
    await world.silence("silent")
    await world.sessions.detach([("gone", world.epochs["gone"])])
    before = await world.dump()
    offline = {"offline": OfflinePolicy.FAIL}
    answers = await world.enqueue(*(world.new(agent, **offline) for agent in ("never", "silent", "gone")))
    assert {answer.outcome for answer in answers} == {QueueOutcome.AGENT_OFFLINE}
    assert [answer.agent.known for answer in answers] == [False, True, True]
    assert not any(answer.agent.present for answer in answers)
    away_since = [answer.agent.away_since_ms for answer in answers]
    assert away_since[:2] == [0, 1]
    assert abs(away_since[2] - await world.now_ms()) < 10_000
    assert await world.dump() == before
    (answer,) = await world.enqueue(world.new(**offline))
    assert (answer.outcome, answer.agent) == (QueueOutcome.QUEUED, AgentPresence(True, True, 0))


async def test_a_full_queue_refuses(world: StoreWorld) -> None:
    small = world.under(queue_limit=2)
    answers = await small.enqueue(*(world.new() for _ in range(3)), world.new("other"))
    queued, full = QueueOutcome.QUEUED, QueueOutcome.QUEUE_FULL
    assert [answer.outcome for answer in answers] == [queued, queued, full, queued]
    before = await world.dump()
    (answer,) = await small.enqueue(world.new(priority=100))
    assert answer.outcome is QueueOutcome.QUEUE_FULL
    assert await world.dump() == before
    await world.attach()
    await world.store.claim([ClaimRequest(AGENT, world.epochs[AGENT], 1, LEASE)])
    assert (await small.enqueue(world.new()))[0].outcome is QueueOutcome.QUEUED


async def test_what_waits_for_another_attempt_counts_as_queued(world: StoreWorld) -> None:
    small = world.under(queue_limit=1)
    delayed = await small.assigned()
    await world.store.release([Release(delayed, AGENT, LEASE, 60_000, Reason("busy", "?"), refused=True)])
    (agent,) = await world.reader.agents([AGENT])
    assert agent is not None
    assert agent.queued == 1
    assert (await small.enqueue(world.new()))[0].outcome is QueueOutcome.QUEUE_FULL
    dropping = world.under(queue_limit=1, queue_full="drop")
    newcomer = await dropping.queued()
    assert (await world.state(delayed)).status is CommandStatus.CANCELLED
    assert await claimed_ids(world) == [newcomer]
    assert keys.DELAYED.format(agent_id=AGENT) not in await world.dump()


async def test_a_batch_arrives_in_the_millisecond_of_its_receipt(world: StoreWorld) -> None:
    """So that a filter by time and the receipts that it shows agree."""
    for _ in range(20):
        batch = [world.new("many") for _ in range(250)]
        queued_ms = {answer.queued_ms for answer in await world.enqueue(*batch)}
        arrivals = [int((await world.hash(batch[place].command_id))["queued_us"]) for place in (0, 1, 249)]
        assert {arrival // 1_000 for arrival in arrivals} == queued_ms
        assert arrivals == sorted(arrivals)
        await world.connection.call("DEL", keys.READY.format(agent_id="many"))


async def test_a_full_queue_that_drops_takes_the_oldest_of_the_lowest_priority(world: StoreWorld) -> None:
    small = world.under(queue_limit=3, queue_full="drop")
    ids = [await small.queued(priority=priority) for priority in (50, 25, 25)]
    before = await world.dump()
    newcomer = await small.queued(priority=25)
    state = await world.state(ids[1])
    assert (state.status, state.reason.code) == (CommandStatus.CANCELLED, "queue_overflow")
    (result,) = await world.reader.results([ids[1]])
    assert result is not None
    assert (result.status, result.reason) == (CommandStatus.CANCELLED, state.reason)
    gone = own_keys(ids[1], *ENDING_KEYS)
    came = own_keys(newcomer, keys.COMMAND, keys.STATUS, keys.AGENT_COMMAND)
    assert changed(before, await world.dump()) == {
        *gone,
        *came,
        *agent_index(keys.READY, keys.AGENT_COMMANDS),
        *status_index(CommandStatus.QUEUED, CommandStatus.CANCELLED),
        keys.DEADLINES,
        keys.ENDED,
        keys.EVENTS,
    }
    await world.attach()
    assert await claimed_ids(world) == [ids[0], ids[2], newcomer]


async def test_nothing_is_dropped_for_a_command_of_lower_priority(world: StoreWorld) -> None:
    small = world.under(queue_limit=2, queue_full="drop")
    await small.queued(priority=50)
    await small.queued(priority=51)
    before = await world.dump()
    (answer,) = await small.enqueue(world.new(priority=49))
    assert answer.outcome is QueueOutcome.QUEUE_FULL
    assert await world.dump() == before


async def test_several_drops_in_one_call(world: StoreWorld) -> None:
    """What this call has queued is never dropped by it: the third newcomer finds nobody to push out."""
    small = world.under(queue_limit=2, queue_full="drop")
    old = [await small.queued() for _ in range(2)]
    newcomers = [world.new() for _ in range(3)]
    answers = await small.enqueue(*newcomers)
    assert [answer.outcome for answer in answers] == [
        QueueOutcome.QUEUED,
        QueueOutcome.QUEUED,
        QueueOutcome.QUEUE_FULL,
    ]
    assert {(await world.state(command_id)).status for command_id in old} == {CommandStatus.CANCELLED}
    await world.attach()
    assert await claimed_ids(world) == [command.command_id for command in newcomers[:2]]
    assert newcomers[2].command_id not in str(await world.dump())


async def test_a_command_that_may_run_is_not_dropped(world: StoreWorld) -> None:
    """Its first attempt was given up, but its agent may have started it."""
    may_run = await world.assigned()
    await world.pass_deadline(may_run)
    await world.store.due([0])
    assert (await world.state(may_run)).status is CommandStatus.QUEUED
    small = world.under(queue_limit=2, queue_full="drop")
    waiting = await small.queued()
    newer = await small.queued()
    assert (await world.state(waiting)).status is CommandStatus.CANCELLED
    assert {(await world.state(command_id)).status for command_id in (may_run, newer)} == {CommandStatus.QUEUED}
    smaller = world.under(queue_limit=1, queue_full="drop")
    await world.store.cancel(newer, "")
    (refused,) = await smaller.enqueue(smaller.new())
    assert refused.outcome is QueueOutcome.QUEUE_FULL
    assert (await world.state(may_run)).status is CommandStatus.QUEUED


async def test_what_is_dropped_has_the_output_of_its_earlier_runs(world: StoreWorld) -> None:
    small = world.under(queue_limit=1, queue_full="drop")
    command_id = await world.assigned(max_runs=2)
    await world.print_output(command_id, 0, b"12345")
    report = completion(command_id, CommandStatus.FAILED, output_bytes=5, rerun_delay_ms=0)
    assert await world.store.finish([report]) == [CompletionOutcome.RUN_AGAIN]
    await small.queued()
    (result,) = await world.reader.results([command_id])
    assert result is not None
    assert (result.reason.code, result.output_bytes) == ("queue_overflow", 5)


async def test_a_large_batch_is_split_and_answered_in_order(world: StoreWorld) -> None:
    commands = [NewCommand(world.new_id(), f"agent{n % 7}", "PING", ENCODED) for n in range(600)]
    answers = await world.enqueue(*commands)
    assert [answer.command_id for answer in answers] == [command.command_id for command in commands]
    assert (await world.reader.depth()).by_status[CommandStatus.QUEUED] == 600
