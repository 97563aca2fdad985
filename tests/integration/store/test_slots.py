"""Commands that use more than one slot of their agent's capacity, which is 5."""

from __future__ import annotations

import pytest

from distributor.model.agent import AgentHello, HeldCommand
from distributor.model.delivery import NOT_DELIVERED, Claim, ClaimRequest, Release
from distributor.model.lifecycle import CommandStatus
from distributor.model.queueing import QueueOutcome
from tests.support.store_world import AGENT, INSTANCE, LEASE, StoreWorld


async def claimed(world: StoreWorld, slots: int, max_commands: int = 20, lease_id: str = LEASE) -> Claim:
    """What a session with so many free slots is given."""
    commands = min(slots, max_commands)
    request = ClaimRequest(AGENT, world.epochs[AGENT], commands, lease_id, extra_slots=slots - commands)
    (claim,) = await world.store.claim([request])
    return claim


def given(claim: Claim) -> list[tuple[str, int]]:
    return [(command.command_id, command.slots) for command in claim.commands]


async def attach(world: StoreWorld, capacity: int, instance_id: str = INSTANCE) -> None:
    hello = AgentHello(AGENT, instance_id, capacity, (), {}, "", ())
    world.epochs[AGENT] = (await world.sessions.attach(hello)).epoch


async def test_a_claim_takes_as_many_slots_as_are_free(world: StoreWorld) -> None:
    await world.attach()
    heavy, light, second = await world.queued(slots=3), await world.queued(), await world.queued(slots=2)
    claim = await claimed(world, 5)
    assert given(claim) == [(heavy, 3), (light, 1)]
    assert (claim.slots, claim.needed_slots) == (4, 2)
    assert given(await claimed(world, 1, lease_id="lease2")) == []
    assert given(await claimed(world, 2, lease_id="lease2")) == [(second, 2)]


async def test_nothing_overtakes_a_heavy_command_that_does_not_fit(world: StoreWorld) -> None:
    await world.attach()
    heavy = await world.queued(slots=4)
    light = [await world.queued() for _ in range(3)]
    before = await world.dump()
    blocked = await claimed(world, 3)
    assert (given(blocked), blocked.needed_slots) == ([], 4)
    assert await world.dump() == before
    assert given(await claimed(world, 5)) == [(heavy, 4), (light[0], 1)]


async def test_a_higher_priority_goes_before_a_blocked_command(world: StoreWorld) -> None:
    await world.attach()
    await world.queued(slots=4)
    urgent = await world.queued(priority=100)
    claim = await claimed(world, 3)
    assert (given(claim), claim.needed_slots) == ([(urgent, 1)], 4)


async def test_one_that_ends_in_the_queue_blocks_no_longer(world: StoreWorld) -> None:
    await world.attach()
    heavy, light = await world.queued(slots=4), await world.queued()
    assert (await claimed(world, 3)).needed_slots == 4
    await world.store.cancel(heavy, "")
    assert given(await claimed(world, 3)) == [(light, 1)]


async def test_control_commands_use_no_slots(world: StoreWorld) -> None:
    await world.attach()
    ping = await world.queued(kind="PING", slots=900)
    assert "slots" not in await world.hash(ping)
    (claim,) = await world.store.claim([ClaimRequest(AGENT, world.epochs[AGENT], 0, LEASE, 4)])
    assert (given(claim), claim.control, claim.slots) == ([(ping, 1)], 1, 0)


@pytest.mark.parametrize("slots", [5, 6])
async def test_no_more_than_the_capacity_of_a_known_agent_is_queued(world: StoreWorld, slots: int) -> None:
    await world.attach()
    before = await world.dump()
    (answer,) = await world.enqueue(world.new(slots=slots))
    if slots == 5:
        assert answer.outcome is QueueOutcome.QUEUED
    else:
        assert (answer.outcome, answer.agent_capacity) == (QueueOutcome.TOO_MANY_SLOTS, 5)
        assert await world.dump() == before


async def test_an_agent_that_attaches_with_less_fails_what_needs_more(world: StoreWorld) -> None:
    heavy, light = await world.queued(slots=6), await world.queued()
    await world.attach()
    claim = await claimed(world, 5)
    assert (given(claim), claim.needed_slots) == ([(light, 1)], 0)
    state = await world.state(heavy)
    assert (state.status, state.reason) == (
        CommandStatus.FAILED,
        ("too_many_slots", "it needs 6 slots, its agent has 5"),
    )
    assert (await world.state(heavy)).attempt == 0


async def test_one_that_may_run_and_is_too_heavy_meanwhile_waits_for_word(world: StoreWorld) -> None:
    await world.attach()
    heavy = await world.queued(slots=5)
    await claimed(world, 5)
    # Its agent may have started it.
    await world.store.release([Release(heavy, AGENT, LEASE, 0, NOT_DELIVERED)])
    await world.connection.call("HSET", f"agent:{AGENT}:session", "capacity", 4)
    assert given(await claimed(world, 4, lease_id="lease2")) == []
    state = await world.state(heavy)
    assert (state.status, state.reason.code) == (CommandStatus.ASSIGNED, "unconfirmed")


async def test_slots_outlive_a_release_and_a_reattach(world: StoreWorld) -> None:
    await world.attach()
    heavy = await world.queued(slots=5)
    await claimed(world, 5)
    await world.store.release([Release(heavy, AGENT, LEASE, 0, NOT_DELIVERED, unsent=True)])
    assert (await claimed(world, 4, lease_id="lease2")).needed_slots == 5
    assert given(await claimed(world, 5, lease_id="lease3")) == [(heavy, 5)]
    attached = await world.attach(held=(HeldCommand(heavy, "lease3"),))
    assert attached.adopted[heavy].slots == 5


async def test_a_light_command_stores_no_slots(world: StoreWorld) -> None:
    assert "slots" not in await world.hash(await world.queued())
