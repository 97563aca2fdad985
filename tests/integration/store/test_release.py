from __future__ import annotations

import pytest

from distributor.model.command import Reason
from distributor.model.delivery import Progress, Release
from distributor.model.lifecycle import CommandStatus
from distributor.store import keys
from tests.support.store_world import (
    AGENT,
    ENDING_KEYS,
    LEASE,
    StoreWorld,
    agent_index,
    changed,
    own_keys,
    status_index,
)

BUSY = Reason("busy", "no room")


def release(command_id: str, agent_id: str = AGENT, lease_id: str = LEASE, delay_ms: int = 0) -> Release:
    return Release(command_id, agent_id, lease_id, delay_ms, BUSY, refused=True)


@pytest.mark.parametrize("status", CommandStatus)
async def test_only_an_assigned_command_goes_back(world: StoreWorld, status: CommandStatus) -> None:
    command_id = await world.command(status)
    before = await world.dump()
    answer = await world.store.release([release(command_id)])
    after = await world.dump()
    if status is not CommandStatus.ASSIGNED:
        assert answer == [None]
        assert after == before
        return
    assert answer == [CommandStatus.QUEUED]
    state = await world.state(command_id)
    assert (state.status, state.attempt, state.reason) == (CommandStatus.QUEUED, 1, BUSY)
    assert state.receipts == (state.receipts.queued_ms, 0, 0, 0, 0, 0)
    assert await world.deadline(command_id) == int((await world.hash(command_id))["expires_ms"])
    assert changed(before, after) == {
        *own_keys(command_id, keys.STATUS),
        *agent_index(keys.READY, keys.ASSIGNED),
        *status_index(CommandStatus.QUEUED, CommandStatus.ASSIGNED),
        keys.DEADLINES,
        keys.EVENTS,
    }


@pytest.mark.parametrize(("agent_id", "lease_id"), [("other", LEASE), (AGENT, "lease0"), (AGENT, "")])
async def test_another_agent_or_lease_changes_nothing(world: StoreWorld, agent_id: str, lease_id: str) -> None:
    command_id = await world.assigned()
    before = await world.dump()
    assert await world.store.release([release(command_id, agent_id, lease_id)]) == [None]
    assert await world.dump() == before


async def test_an_unknown_command(world: StoreWorld) -> None:
    assert await world.store.release([release(world.new_id())]) == [None]
    assert await world.dump() == {}


async def test_it_keeps_its_place(world: StoreWorld) -> None:
    first = await world.assigned()
    second = await world.queued()
    await world.store.release([release(first)])
    assert [command.command_id for command in (await world.claim()).commands] == [first, second]


async def test_released_once_though_asked_twice(world: StoreWorld) -> None:
    command_id = await world.assigned()
    answer = await world.store.release([release(command_id), release(command_id)])
    assert answer == [CommandStatus.QUEUED, None]


async def test_after_the_last_attempt_it_has_failed(world: StoreWorld) -> None:
    world = world.under(delivery_attempts=2)
    command_id = await world.assigned()
    await world.store.release([release(command_id)])
    await world.claim()
    before = await world.dump()
    assert await world.store.release([release(command_id)]) == [CommandStatus.FAILED]
    state = await world.state(command_id)
    assert (state.status, state.attempt, state.reason) == (CommandStatus.FAILED, 2, BUSY)
    (result,) = await world.reader.results([command_id])
    assert result is not None
    assert (result.status, result.reason) == (CommandStatus.FAILED, BUSY)
    assert changed(before, await world.dump()) == {
        *own_keys(command_id, *ENDING_KEYS),
        *agent_index(keys.ASSIGNED),
        *status_index(CommandStatus.ASSIGNED, CommandStatus.FAILED),
        keys.DEADLINES,
        keys.ENDED,
        keys.EVENTS,
    }


async def test_what_was_nobodys_failure_is_no_attempt(world: StoreWorld) -> None:
    world = world.under(delivery_attempts=1)
    command_id = await world.assigned()
    for _ in range(3):
        assert await world.store.release([release(command_id)._replace(counts=False)]) == [CommandStatus.QUEUED]
        await world.claim()
    assert await world.store.release([release(command_id)]) == [CommandStatus.FAILED]


async def test_with_a_cancel_asked_for_it_is_cancelled(world: StoreWorld) -> None:
    command_id = await world.assigned()
    await world.store.cancel(command_id, "no longer wanted")
    assert await world.store.release([release(command_id)]) == [CommandStatus.CANCELLED]
    state = await world.state(command_id)
    assert (state.status, state.reason.code) == (CommandStatus.CANCELLED, "cancelled")
    assert await world.store.release([release(command_id)]) == [None]


async def test_a_delayed_one_is_out_of_reach_until_its_delay_is_over(world: StoreWorld) -> None:
    command_id = await world.assigned()
    await world.store.release([release(command_id, delay_ms=60_000)])
    deadline = await world.deadline(command_id)
    assert deadline is not None
    assert 50_000 < deadline - await world.now_ms() <= 60_000
    assert (await world.claim()).commands == []
    await world.end_delay(command_id)
    _, done = await world.store.due([0])
    assert done == [(command_id, AGENT, CommandStatus.QUEUED)]
    assert await world.deadline(command_id) == int((await world.hash(command_id))["expires_ms"])
    assert [command.command_id for command in (await world.claim()).commands] == [command_id]


async def test_a_delay_does_not_outlast_the_time_in_the_queue(world: StoreWorld) -> None:
    command_id = await world.assigned(queue_ttl_ms=40_000)
    await world.store.release([release(command_id, delay_ms=60_000)])
    assert await world.deadline(command_id) == int((await world.hash(command_id))["expires_ms"])


async def test_a_delayed_one_can_be_cancelled(world: StoreWorld) -> None:
    command_id = await world.assigned()
    await world.store.release([release(command_id, delay_ms=60_000)])
    state = await world.store.cancel(command_id, "never mind")
    assert state is not None
    assert state.status is CommandStatus.CANCELLED
    assert await world.deadline(command_id) is None


async def test_its_receipts_are_those_of_the_next_attempt(world: StoreWorld) -> None:
    command_id = await world.acknowledged()
    await world.store.release([release(command_id)])
    await world.claim(lease_id="lease2")
    receipts = (await world.state(command_id)).receipts
    assert (receipts.sent_ms, receipts.acknowledged_ms) == (0, 0)
    assert receipts.assigned_ms > 0
    assert await world.store.progress([Progress(command_id, AGENT, LEASE, 1, 2)]) == [False]
