from __future__ import annotations

import pytest

from distributor.model.command import Receipts
from distributor.model.delivery import Progress
from distributor.model.event import CommandChanged, EventKind
from distributor.model.lifecycle import CommandStatus
from distributor.store import keys
from tests.support.store_world import AGENT, LEASE, StoreWorld, changed, own_keys


@pytest.mark.parametrize("status", CommandStatus)
async def test_only_an_assigned_command_makes_progress(world: StoreWorld, status: CommandStatus) -> None:
    command_id = await world.command(status)
    before = await world.dump()
    answer = await world.store.progress([Progress(command_id, AGENT, LEASE, 10, 20, 30)])
    after = await world.dump()
    state = await world.state(command_id)
    assert state.status is status
    if status is not CommandStatus.ASSIGNED:
        assert answer == [False]
        assert after == before
        return
    assert answer == [True]
    assigned = state.receipts.assigned_ms
    assert state.receipts == Receipts(state.receipts.queued_ms, assigned, assigned + 10, assigned + 20, assigned + 30)
    assert changed(before, after) == {*own_keys(command_id, keys.STATUS), keys.DEADLINES, keys.EVENTS}


async def test_the_deadline_becomes_the_run_limit(world: StoreWorld) -> None:
    command_id = await world.assigned(time_limit_ms=70_000)
    earliest = await world.now_ms() + 70_000 + world.policy.run_limit_slack_ms
    await world.store.progress([Progress(command_id, AGENT, LEASE, 1, 2)])
    deadline = await world.deadline(command_id)
    assert deadline is not None
    assert earliest <= deadline <= earliest + 10_000


@pytest.mark.parametrize(
    ("agent_id", "lease_id"), [("other", LEASE), (AGENT, "lease0"), (AGENT, ""), ("", LEASE)], ids=repr
)
async def test_another_agent_or_lease_changes_nothing(world: StoreWorld, agent_id: str, lease_id: str) -> None:
    command_id = await world.assigned()
    before = await world.dump()
    assert await world.store.progress([Progress(command_id, agent_id, lease_id, 1, 2, 3)]) == [False]
    assert await world.dump() == before


async def test_an_unknown_command(world: StoreWorld) -> None:
    assert await world.store.progress([Progress(world.new_id(), AGENT, LEASE, 1, 2, 3)]) == [False]
    assert await world.dump() == {}


async def test_a_receipt_is_written_once(world: StoreWorld) -> None:
    command_id = await world.assigned()
    await world.store.progress([Progress(command_id, AGENT, LEASE, 1, 2)])
    before = await world.dump()
    assert await world.store.progress([Progress(command_id, AGENT, LEASE, 5, 6)]) == [True]
    assert await world.dump() == before
    await world.store.progress([Progress(command_id, AGENT, LEASE, 7, 8, 9)])
    receipts = (await world.state(command_id)).receipts
    after = [time - receipts.assigned_ms for time in (receipts.sent_ms, receipts.acknowledged_ms, receipts.started_ms)]
    assert after == [1, 2, 9]


async def test_an_answer_for_each(world: StoreWorld) -> None:
    command_id = await world.assigned()
    position = await world.position()
    items = [
        Progress(world.new_id(), AGENT, LEASE, 1, 2),
        Progress(command_id, AGENT, LEASE, 1, 2),
        Progress(command_id, AGENT, LEASE, 1, 2, 3),
        Progress(command_id, AGENT, LEASE, 1, 2, 3),
    ]
    assert await world.store.progress(items) == [False, True, True, True]
    events = await world.events(position)
    assert [event.kind for event in events if isinstance(event, CommandChanged)] == [
        EventKind.ACKNOWLEDGED,
        EventKind.STARTED,
    ]


async def test_what_has_started_has_been_received(world: StoreWorld) -> None:
    """Else its deadline, or a return of its agent without it, would give it out a second time."""
    command_id = await world.assigned()
    await world.store.progress([Progress(command_id, AGENT, LEASE, None, None, 3)])
    receipts = (await world.state(command_id)).receipts
    assert receipts.acknowledged_ms == receipts.started_ms == receipts.assigned_ms + 3
