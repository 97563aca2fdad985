from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import pytest

from distributor.model.command import Reason
from distributor.model.delivery import Completion, Progress, Release
from distributor.model.event import (
    AgentChanged,
    CommandChanged,
    CommandReady,
    EventBatch,
    EventKind,
    OutputArrived,
    merged,
)
from distributor.model.lifecycle import CommandStatus
from distributor.model.position import order_of
from distributor.store import keys
from distributor.store.event_log import ValkeyEventLog
from tests.support.store_world import AGENT, LEASE, StoreWorld, completion
from tests.support.waiting import PATIENCE_SECONDS


async def expire(world: StoreWorld, command_id: str) -> None:
    await world.pass_deadline(command_id)
    await world.store.due([0])


async def give_back(world: StoreWorld, command_id: str) -> None:
    await world.store.release([Release(command_id, AGENT, LEASE, 0, Reason("busy", "no\troom\nnow"))])


async def refuse(world: StoreWorld, command_id: str) -> None:
    """The command was sent, and the agent ends it without acknowledging or starting it."""
    sent = Progress(command_id, AGENT, LEASE, 5)
    await world.store.finish([Completion(sent, CommandStatus.FAILED, Reason("unsupported"))])


async def start(world: StoreWorld, command_id: str) -> None:
    await world.store.progress([Progress(command_id, AGENT, LEASE, 1, 2, 3)])


CHANGES: dict[str, tuple[CommandStatus, Callable[[StoreWorld, str], Awaitable[object]], EventKind, CommandStatus]] = {
    "claim": (CommandStatus.QUEUED, lambda world, _: world.claim(), EventKind.ASSIGNED, CommandStatus.ASSIGNED),
    "progress": (CommandStatus.ASSIGNED, start, EventKind.STARTED, CommandStatus.ASSIGNED),
    "finish": (
        CommandStatus.ASSIGNED,
        lambda world, command_id: world.store.finish([completion(command_id, reason=Reason("a", "b\tc\td"))]),
        EventKind.FINISHED,
        CommandStatus.COMPLETED,
    ),
    "refuse": (CommandStatus.ASSIGNED, refuse, EventKind.FINISHED, CommandStatus.FAILED),
    "release": (CommandStatus.ASSIGNED, give_back, EventKind.RELEASED, CommandStatus.QUEUED),
    "cancel queued": (
        CommandStatus.QUEUED,
        lambda world, command_id: world.store.cancel(command_id, ""),
        EventKind.FINISHED,
        CommandStatus.CANCELLED,
    ),
    "cancel assigned": (
        CommandStatus.ASSIGNED,
        lambda world, command_id: world.store.cancel(command_id, "why\tnot"),
        EventKind.CANCEL_REQUESTED,
        CommandStatus.ASSIGNED,
    ),
    "expire": (CommandStatus.QUEUED, expire, EventKind.FINISHED, CommandStatus.TIMEOUT),
    "not acknowledged": (CommandStatus.ASSIGNED, expire, EventKind.RELEASED, CommandStatus.QUEUED),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_each_change_tells_the_state_after_it(world: StoreWorld, change: str) -> None:
    status, act, kind, after = CHANGES[change]
    command_id = await world.command(status)
    before = await world.state(command_id)
    position = await world.position()
    await act(world, command_id)
    (event,) = await world.events(position)
    assert isinstance(event, CommandChanged)
    assert (event.kind, event.status, event.revision) == (kind, after, before.revision + 1)
    assert (event.whole is not None) == (kind is EventKind.FINISHED)
    assert merged(before, event) == await world.state(command_id)
    assert list(world.told[-1].events) == [event], "the reply tells what the stream has"
    assert world.told[-1].position == await world.position()


async def test_a_new_command_and_one_whose_delay_is_over(world: StoreWorld) -> None:
    command_id = await world.queued(priority=7)
    (event,) = await world.events()
    state = await world.state(command_id)
    assert event == CommandChanged(EventKind.QUEUED, command_id, AGENT, 1, CommandStatus.QUEUED, 0, whole=state)
    await world.attach()
    await world.claim()
    await world.store.release([Release(command_id, AGENT, LEASE, 60_000, Reason("busy"))])
    await world.end_delay(command_id)
    position, state = await world.position(), await world.state(command_id)
    await world.store.due([0])
    assert await world.events(position) == [CommandReady(command_id, AGENT, "PRINT")]
    assert await world.state(command_id) == state, "nothing that is shown has changed"


async def test_a_drop_is_told_before_the_newcomer(world: StoreWorld) -> None:
    small = world.under(queue_limit=1, queue_full="drop")
    dropped = await small.queued()
    position = await world.position()
    newcomer = await small.queued()
    events = [event for event in await world.events(position) if isinstance(event, CommandChanged)]
    assert [(event.kind, event.command_id) for event in events] == [
        (EventKind.FINISHED, dropped),
        (EventKind.QUEUED, newcomer),
    ]
    assert events[0].whole == await world.state(dropped)


async def test_an_attach_tells_of_the_agent_and_of_what_became_of_its_commands(world: StoreWorld) -> None:
    lost = await world.acknowledged()
    position = await world.position()
    await world.attach()
    finished, agent = await world.events(position)
    assert isinstance(finished, CommandChanged)
    assert finished.whole == await world.state(lost)
    assert agent == AgentChanged(AGENT, 2, 1, connected=True)


async def test_one_entry_for_a_call_in_the_order_of_its_items(world: StoreWorld) -> None:
    answers = await world.enqueue(*(world.new() for _ in range(5)))
    events = await world.events()
    assert len(world.told) == 1
    told = [event.command_id for event in events if isinstance(event, CommandChanged)]
    assert told == [answer.command_id for answer in answers]


async def test_output_is_told_by_its_end(world: StoreWorld) -> None:
    command_id = await world.assigned()
    position = await world.position()
    await world.print_output(command_id, 0, b"12345")
    (event,) = await world.events(position)
    assert event == OutputArrived(command_id, AGENT, 5)


async def test_the_log_is_capped(world: StoreWorld) -> None:
    """Trimmed by whole nodes of a hundred entries: a little more may stay, never much more."""
    brief = world.under(events_kept=10)
    for _ in range(400):
        await brief.queued("agent-with-a-queue")
    length = await world.connection.call("XLEN", keys.EVENTS)
    assert 10 <= length <= 10 + 2 * 100


async def test_the_log_may_be_capped_by_age_instead(world: StoreWorld) -> None:
    brief = world.under(events_kept=1, events_kept_ms=60_000)
    for _ in range(400):
        await brief.queued("agent-with-a-queue")
    assert await world.connection.call("XLEN", keys.EVENTS) == 400
    await world.connection.call("DEL", keys.EVENTS)
    for number in range(400):
        await world.connection.call("XADD", keys.EVENTS, f"{number + 1}-0", "origin", "old")
    await brief.queued("agent-with-a-queue")
    assert await world.connection.call("XLEN", keys.EVENTS) <= 100


async def test_positions_of_an_empty_log(world: StoreWorld) -> None:
    assert await world.position() == "0-0"
    assert await world.events() == []


async def tailed(log: ValkeyEventLog, position: str, count: int) -> list[EventBatch]:
    """The first few batches of a tail."""
    tail = log.tail(position)
    async with aclosing(tail), asyncio.timeout(PATIENCE_SECONDS):
        return [await anext(tail) for _ in range(count)]


async def test_a_reader_that_was_overtaken_is_told_so(world: StoreWorld) -> None:
    await world.queued()
    position = await world.position()
    brief = world.under(events_kept=10)
    for _ in range(300):
        await brief.queued("agent-with-a-queue")
    missed, first = await tailed(ValkeyEventLog(world.connections.events, shard=world.shard), position, 2)
    assert (missed.missed, list(missed.events)) == (True, [])
    assert first.events


async def test_a_reader_that_keeps_up_is_told_no_such_thing(world: StoreWorld) -> None:
    position = await world.position()
    await world.queued()
    (first,) = await tailed(ValkeyEventLog(world.connections.events, shard=world.shard), position, 1)
    assert not first.missed
    await world.queued()
    (second,) = await tailed(ValkeyEventLog(world.connections.events, shard=world.shard), first.position, 1)
    assert not second.missed


async def test_an_emptied_valkey_is_noticed(world: StoreWorld) -> None:
    await world.queued()
    position = await world.position()
    await world.connection.call("FLUSHALL")
    # Positions are times: what is written in the same millisecond cannot be told from what was there before.
    while await world.now_ms() <= order_of(position)[0]:
        pass
    await world.queued()
    missed, first = await tailed(ValkeyEventLog(world.connections.events, shard=world.shard), position, 2)
    assert missed.missed
    assert first.events


async def test_an_emptied_valkey_with_an_earlier_clock_is_noticed(world: StoreWorld) -> None:
    await world.queued()
    position = await world.position()
    await world.connection.call("FLUSHALL")
    await world.connection.call("XADD", keys.EVENTS, "5-0", "origin", "r")
    await world.connection.call("XADD", keys.EVENTS, "6-0", "origin", "r")
    (missed,) = await tailed(ValkeyEventLog(world.connections.events, shard=world.shard), position, 1)
    assert (missed.missed, missed.position) == (True, "6-0")
