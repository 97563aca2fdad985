from __future__ import annotations

import pytest

from distributor.model.delivery import ClaimRequest
from distributor.model.lifecycle import CommandStatus
from distributor.model.queueing import NewCommand
from distributor.store import keys
from tests.support.store_world import (
    AGENT,
    ENCODED,
    LEASE,
    StoreWorld,
    agent_index,
    changed,
    own_keys,
    status_index,
)


@pytest.mark.parametrize("status", CommandStatus)
async def test_only_queued_commands_are_given_out(world: StoreWorld, status: CommandStatus) -> None:
    command_id = await world.command(status)
    before = await world.dump()
    claim = await world.claim()
    after = await world.dump()
    assert (claim.agent_id, claim.lease_id, claim.superseded) == (AGENT, LEASE, False)
    if status is not CommandStatus.QUEUED:
        assert claim.commands == []
        assert after == before
        return
    assert claim.commands == [(command_id, 1, ENCODED, 1)]
    state = await world.state(command_id)
    assert (state.status, state.attempt) == (CommandStatus.ASSIGNED, 1)
    assert state.receipts.assigned_ms == claim.assigned_ms >= state.receipts.queued_ms
    assert await world.deadline(command_id) == claim.assigned_ms + world.policy.ack_deadline_ms
    assert changed(before, after) == {
        *own_keys(command_id, keys.STATUS),
        *agent_index(keys.READY, keys.ASSIGNED),
        *status_index(CommandStatus.QUEUED, CommandStatus.ASSIGNED),
        keys.DEADLINES,
        keys.EVENTS,
    }


@pytest.mark.parametrize("status", [status for status in CommandStatus if status is not CommandStatus.QUEUED])
async def test_an_entry_of_the_ready_index_that_is_wrong_goes_without_a_claim(
    world: StoreWorld, status: CommandStatus
) -> None:
    command_id = await world.command(status)
    before = await world.dump()
    await world.connection.call("ZADD", keys.READY.format(agent_id=AGENT), 1, command_id)
    assert (await world.claim()).commands == []
    assert await world.dump() == before


async def test_an_entry_of_the_ready_index_without_a_command_goes(world: StoreWorld) -> None:
    await world.attach()
    before = await world.dump()
    await world.connection.call("ZADD", keys.READY.format(agent_id=AGENT), 1, world.new_id())
    assert (await world.claim()).commands == []
    assert await world.dump() == before


async def test_the_latest_session_alone_is_given_commands(world: StoreWorld) -> None:
    first = await world.attach()
    second = await world.attach()
    await world.queued()
    before = await world.dump()
    stale, never = await world.store.claim(
        [ClaimRequest(AGENT, first.epoch, 5, LEASE), ClaimRequest("stranger", 1, 5, LEASE)]
    )
    assert stale.superseded
    assert stale.commands == []
    assert never.superseded
    assert never.commands == []
    await world.sessions.detach([(AGENT, second.epoch)])
    assert (await world.claim()).superseded
    assert changed(before, await world.dump()) == {*agent_index(keys.SESSION), keys.EVENTS}


async def test_no_more_than_asked_for(world: StoreWorld) -> None:
    await world.attach()
    ids = [await world.queued() for _ in range(5)]
    assert [command.command_id for command in (await world.claim(max_commands=2)).commands] == ids[:2]
    before = await world.dump()
    assert (await world.claim(max_commands=0)).commands == []
    assert await world.dump() == before
    assert [command.command_id for command in (await world.claim(max_commands=20)).commands] == ids[2:]


async def test_the_bytes_of_a_claim_are_bounded_but_one_always_goes(world: StoreWorld) -> None:
    world = world.under(max_claimed_bytes=250)
    await world.attach()
    sizes = (300, 100, 100, 100)
    ids = [world.new_id() for _ in sizes]
    await world.enqueue(
        *(NewCommand(command_id, AGENT, "PRINT", b"x" * size) for command_id, size in zip(ids, sizes, strict=True))
    )
    given = []
    while claim := (await world.claim()).commands:
        given.append([command.command_id for command in claim])
    assert given == [[ids[0]], [ids[1], ids[2]], [ids[3]]]


async def test_a_command_that_has_waited_too_long_is_not_given_out_but_ends(world: StoreWorld) -> None:
    await world.attach()
    expired, fresh = await world.queued(), await world.queued()
    await world.set_field(expired, "expires_ms", 1)
    assert [command.command_id for command in (await world.claim()).commands] == [fresh]
    state = await world.state(expired)
    assert (state.status, state.reason.code) == (CommandStatus.TIMEOUT, "expired")


async def test_what_is_too_large_for_a_claim_keeps_its_place(world: StoreWorld) -> None:
    await world.attach()
    ids = [await world.queued(priority=priority) for priority in (90, 60, 70, 80)]
    before = await world.dump()
    world = world.under(max_claimed_bytes=len(ENCODED))
    assert [command.command_id for command in (await world.claim()).commands] == [ids[0]]
    ready = (await world.dump())[keys.READY.format(agent_id=AGENT)][1]
    del before[keys.READY.format(agent_id=AGENT)][1][ids[0]]
    assert ready == before[keys.READY.format(agent_id=AGENT)][1]
    assert list(ready) == [ids[3], ids[2], ids[1]]


async def test_the_same_agent_twice_in_a_call_gets_nothing_twice(world: StoreWorld) -> None:
    attached = await world.attach()
    ids = [await world.queued() for _ in range(3)]
    claims = await world.store.claim([ClaimRequest(AGENT, attached.epoch, 2, lease) for lease in ("a", "b")])
    given = [command.command_id for claim in claims for command in claim.commands]
    assert given == ids
    assert [(await world.hash(command_id))["lease_id"] for command_id in given] == ["a", "a", "b"]
    assert (await world.claim()).commands == []


async def test_what_has_expired_does_not_take_the_place_of_what_can_be_claimed(world: StoreWorld) -> None:
    attached = await world.attach()
    expired = [await world.queued() for _ in range(3)]
    for command_id in expired:
        await world.set_field(command_id, "expires_ms", 1)
    alive = await world.queued()
    (claim,) = await world.store.claim([ClaimRequest(AGENT, attached.epoch, 1, "lease")])
    assert [command.command_id for command in claim.commands] == [alive]


async def test_another_attempt_forgets_why_the_last_one_failed(world: StoreWorld) -> None:
    command_id = await world.assigned()
    await world.print_output(command_id, 0, b"12345")
    await world.pass_deadline(command_id)
    await world.store.due([0])
    assert (await world.state(command_id)).reason.code == "not_acknowledged"
    claim = await world.claim(lease_id="lease2")
    assert claim.commands == [(command_id, 2, ENCODED, 1)]
    state = await world.state(command_id)
    assert (state.attempt, state.reason) == (2, ("", ""))
    fields = await world.hash(command_id)
    assert (fields["lease_id"], fields["output_base"]) == ("lease2", "5")


async def test_what_is_queued_in_the_same_turn_can_be_claimed(world: StoreWorld) -> None:
    """The claim is submitted first, and yet runs behind the new command in the exchange that both share."""
    attached = await world.attach()
    new = world.new()
    claiming = world.store.claim([ClaimRequest(AGENT, attached.epoch, 5, LEASE)])
    queueing = world.store.enqueue([new])
    (claim,), _ = await claiming, await queueing
    assert [command.command_id for command in claim.commands] == [new.command_id]
    assert (await world.state(new.command_id)).revision == 2
