"""Control commands: a queue of their own, claimed beside the credit; a STOP for one instance only."""

from __future__ import annotations

import pytest

from distributor.model.delivery import ClaimRequest
from distributor.model.lifecycle import CommandStatus
from distributor.model.queueing import QueueOutcome
from distributor.store import keys
from tests.support.store_world import AGENT, LEASE, StoreWorld


async def claimed(world: StoreWorld, max_commands: int, max_control: int) -> tuple[list[str], int]:
    """The ids that the agent is given, and how many of them are control commands."""
    (claim,) = await world.store.claim([ClaimRequest(AGENT, world.epochs[AGENT], max_commands, LEASE, max_control)])
    assert not claim.superseded
    return [command.command_id for command in claim.commands], claim.control


async def test_they_are_given_out_first_and_without_credit(world: StoreWorld) -> None:
    await world.attach()
    work = [await world.queued(priority=100) for _ in range(2)]
    control = [await world.queued(kind=kind, priority=0) for kind in ("PING", "STOP", "PING")]
    assert await claimed(world, max_commands=0, max_control=2) == (control[:2], 2)
    assert await claimed(world, max_commands=5, max_control=2) == ([control[2], *work], 1)
    assert await claimed(world, max_commands=5, max_control=5) == ([], 0)


async def test_among_themselves_they_keep_the_order_of_rank(world: StoreWorld) -> None:
    await world.attach()
    low, high = await world.queued(kind="PING", priority=10), await world.queued(kind="PING", priority=90)
    assert await claimed(world, max_commands=0, max_control=4) == ([high, low], 2)


async def test_a_full_queue_of_work_takes_them_still_but_their_own_is_bounded_too(world: StoreWorld) -> None:
    small = world.under(queue_limit=2)
    await small.attach()
    outcomes = [
        (await small.enqueue(small.new(kind=kind)))[0].outcome
        for kind in ("PRINT", "PRINT", "PRINT", "PING", "STOP", "PING")
    ]
    queued, full = QueueOutcome.QUEUED, QueueOutcome.QUEUE_FULL
    assert outcomes == [queued, queued, full, queued, queued, full]


async def test_one_that_is_cancelled_released_or_delayed_stays_in_its_own_queue(world: StoreWorld) -> None:
    await world.attach()
    cancelled, kept = await world.queued(kind="PING"), await world.queued(kind="PING")
    await world.store.cancel(cancelled, "")
    assert await claimed(world, max_commands=0, max_control=4) == ([kept], 1)
    await world.pass_deadline(kept)
    await world.store.due([60_000])
    assert await claimed(world, max_commands=4, max_control=4) == ([], 0)
    await world.end_delay(kept)
    await world.store.due([0])
    assert await claimed(world, max_commands=4, max_control=0) == ([], 0)
    assert await claimed(world, max_commands=0, max_control=4) == ([kept], 1)
    assert await world.connection.call("ZCARD", keys.CONTROL.format(agent_id=AGENT)) == 0


async def test_they_count_as_queued_for_their_agent(world: StoreWorld) -> None:
    await world.attach()
    await world.queued(kind="PING")
    await world.queued()
    (agent,) = await world.reader.agents([AGENT])
    assert agent is not None
    assert agent.queued == 2


@pytest.mark.parametrize("known", [True, False], ids=["queued for the old instance", "queued before any came"])
async def test_a_stop_ends_no_instance_that_came_after_it(world: StoreWorld, known: bool) -> None:
    if known:
        await world.attach(instance_id="old")
    stop, ping = await world.queued(kind="STOP"), await world.queued(kind="PING")
    if known:
        await world.sessions.detach([(AGENT, world.epochs[AGENT])])
    await world.attach(instance_id="new")
    assert await claimed(world, max_commands=4, max_control=4) == ([ping], 1)
    state = await world.state(stop)
    assert (state.status, state.reason.code) == (CommandStatus.FAILED, "instance_gone")
    assert ("is gone" if known else "before this instance") in state.reason.message
    assert await world.connection.call("ZCARD", keys.CONTROL.format(agent_id=AGENT)) == 0


async def test_a_stop_reaches_its_instance_after_a_reconnect(world: StoreWorld) -> None:
    await world.attach(instance_id="same")
    await world.sessions.detach([(AGENT, world.epochs[AGENT])])
    stop = await world.queued(kind="STOP")
    await world.attach(instance_id="same")
    assert await claimed(world, max_commands=0, max_control=4) == ([stop], 1)


async def test_a_stop_that_was_not_delivered_does_not_reach_the_next_instance(world: StoreWorld) -> None:
    await world.attach(instance_id="old")
    stop = await world.queued(kind="STOP")
    assert await claimed(world, max_commands=0, max_control=4) == ([stop], 1)
    await world.sessions.detach([(AGENT, world.epochs[AGENT])])
    await world.attach(instance_id="new")
    assert await claimed(world, max_commands=0, max_control=4) == ([], 0)
    assert (await world.state(stop)).reason.code == "instance_gone"
