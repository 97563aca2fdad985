from __future__ import annotations

import pytest

from distributor.model.command import Reason
from distributor.model.delivery import Release
from distributor.model.lifecycle import CommandStatus
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


@pytest.mark.parametrize("status", CommandStatus)
async def test_what_a_cancel_does_in_each_status(world: StoreWorld, status: CommandStatus) -> None:
    command_id = await world.command(status)
    before, state_before = await world.dump(), await world.state(command_id)
    answer = await world.store.cancel(command_id, "not wanted")
    after, state = await world.dump(), await world.state(command_id)
    assert answer == state
    if status is CommandStatus.QUEUED:
        assert (state.status, state.reason) == (CommandStatus.CANCELLED, Reason("cancelled", "not wanted"))
        assert state.cancel_ms == state.receipts.finished_ms > 0
        assert changed(before, after) == {
            *own_keys(command_id, *ENDING_KEYS),
            *agent_index(keys.READY),
            *status_index(CommandStatus.QUEUED, CommandStatus.CANCELLED),
            keys.DEADLINES,
            keys.ENDED,
            keys.EVENTS,
        }
    elif status is CommandStatus.ASSIGNED:
        assert (state.status, state.reason) == (status, Reason("cancel_requested", "not wanted"))
        assert state.cancel_ms > 0
        assert changed(before, after) == {*own_keys(command_id, keys.STATUS), keys.EVENTS}
    else:
        assert state == state_before
        assert after == before


async def test_an_unknown_command(world: StoreWorld) -> None:
    assert await world.store.cancel(world.new_id(), "") is None
    assert await world.dump() == {}


async def test_a_cancel_is_asked_for_once(world: StoreWorld) -> None:
    command_id = await world.assigned()
    first = await world.store.cancel(command_id, "first")
    before = await world.dump()
    assert await world.store.cancel(command_id, "second") == first
    assert await world.dump() == before


async def test_the_agent_may_complete_it_all_the_same(world: StoreWorld) -> None:
    command_id = await world.acknowledged()
    await world.store.cancel(command_id, "too late")
    await world.store.finish([completion(command_id)])
    state = await world.state(command_id)
    assert (state.status, state.reason) == (CommandStatus.COMPLETED, Reason())
    assert state.cancel_ms > 0


async def test_a_cancelled_command_is_never_given_out(world: StoreWorld) -> None:
    await world.attach()
    command_id = await world.queued()
    await world.store.cancel(command_id, "")
    assert (await world.claim()).commands == []


async def test_one_with_output_of_an_earlier_attempt(world: StoreWorld) -> None:
    command_id = await world.assigned()
    await world.print_output(command_id, 0, b"12345")
    await world.store.release([Release(command_id, AGENT, LEASE, 0, Reason(), refused=True)])
    await world.store.cancel(command_id, "")
    (result,) = await world.reader.results([command_id])
    assert result is not None
    assert result.output_bytes == 5


async def test_a_command_with_a_status_of_a_later_version_is_as_unknown_as_to_a_read(world: StoreWorld) -> None:
    command_id = await world.queued()
    await world.set_field(command_id, "status", "paused")
    assert await world.store.cancel(command_id, "enough") is None
    assert await world.reader.details(command_id) is None
    assert (await world.hash(command_id))["status"] == "paused"
