"""What `attach`, `cancel` and `due`, which are sent at once, mean for calls that still wait for an exchange."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from distributor.model.agent import HeldCommand, Renewal
from distributor.model.command import Reason
from distributor.model.delivery import ClaimRequest, CompletionOutcome, Progress, Release
from distributor.model.lifecycle import CommandStatus
from tests.support.store_world import AGENT, LEASE, StoreWorld, completion


async def attach_without(world: StoreWorld, command_id: str) -> None:
    await world.attach()


async def pass_ack_deadline(world: StoreWorld, command_id: str) -> None:
    await world.pass_deadline(command_id)
    await world.store.due([0])


TAKEN_AWAY: dict[str, Callable[[StoreWorld, str], Awaitable[None]]] = {
    "attach": attach_without,
    "due": pass_ack_deadline,
}


def receipts(command_id: str) -> Progress:
    return Progress(command_id, AGENT, LEASE, 1, 2, 3)


def unsent(command_id: str) -> Release:
    return Release(command_id, AGENT, LEASE, 0, Reason("not_delivered"), counts=False, unsent=True)


@pytest.mark.parametrize("takes", TAKEN_AWAY)
async def test_reports_of_an_attempt_that_was_taken_away_change_nothing(world: StoreWorld, takes: str) -> None:
    command_id = await world.assigned()
    await TAKEN_AWAY[takes](world, command_id)
    assert (await world.state(command_id)).status is CommandStatus.QUEUED
    await nothing_changes(world, command_id)
    await world.claim(lease_id="lease2")
    assert (await world.state(command_id)).status is CommandStatus.ASSIGNED
    await nothing_changes(world, command_id)


async def nothing_changes(world: StoreWorld, command_id: str) -> None:
    """Report under the lease of the first attempt."""
    state = await world.state(command_id)
    assert await world.store.progress([receipts(command_id)]) == [False]
    assert await world.store.release([unsent(command_id)]) == [None]
    assert await world.state(command_id) == state


@pytest.mark.parametrize("takes", TAKEN_AWAY)
async def test_the_outcome_of_an_attempt_that_was_taken_away_counts(world: StoreWorld, takes: str) -> None:
    command_id = await world.assigned()
    await TAKEN_AWAY[takes](world, command_id)
    assert await world.store.finish([completion(command_id, ran=True)]) == [CompletionOutcome.STORED]


async def test_calls_of_an_older_session_change_nothing(world: StoreWorld) -> None:
    await world.attach()
    older = (AGENT, world.epochs[AGENT])
    await world.attach()
    command_id = await world.queued()
    before = await world.dump()
    (claim,) = await world.store.claim([ClaimRequest(*older, 5, LEASE)])
    assert (claim.superseded, claim.commands) == (True, [])
    assert await world.sessions.heartbeat([Renewal(*older)]) == [False]
    assert await world.sessions.detach([older]) == [False]
    assert await world.dump() == before
    assert [one.command_id for one in (await world.claim()).commands] == [command_id]


async def test_reports_of_an_attempt_that_an_attaching_agent_keeps_count(world: StoreWorld) -> None:
    command_id = await world.assigned()
    await world.attach(held=(HeldCommand(command_id, LEASE),))
    assert await world.store.progress([receipts(command_id)]) == [True]
    assert await world.store.release([unsent(command_id)]) == [None], "it has started"
    assert await world.print_output(command_id, 0, b"lines") == 5
    assert await world.store.finish([completion(command_id)]) == [CompletionOutcome.STORED]


async def test_a_kept_attempt_is_not_released_by_the_older_session(world: StoreWorld) -> None:
    command_id = await world.assigned()
    await world.attach(held=(HeldCommand(command_id, LEASE),))
    assert await world.store.release([unsent(command_id)]) == [None]
    assert await world.store.finish([completion(command_id, ran=True)]) == [CompletionOutcome.STORED]


@pytest.mark.parametrize("cancelled_first", [True, False])
async def test_a_cancel_and_a_release_have_the_same_end_in_either_order(
    world: StoreWorld, cancelled_first: bool
) -> None:
    command_id = await world.assigned()
    if cancelled_first:
        await world.store.cancel(command_id, "enough")
    await world.store.release([unsent(command_id)])
    if not cancelled_first:
        await world.store.cancel(command_id, "enough")
    state = await world.state(command_id)
    assert (state.status, state.reason) == (CommandStatus.CANCELLED, Reason("cancelled", "enough"))


async def test_reports_after_a_cancel_count(world: StoreWorld) -> None:
    command_id = await world.assigned()
    await world.store.cancel(command_id, "enough")
    assert await world.store.progress([receipts(command_id)]) == [True]
    assert await world.print_output(command_id, 0, b"lines") == 5
    assert await world.store.finish([completion(command_id)]) == [CompletionOutcome.STORED]
    assert (await world.state(command_id)).status is CommandStatus.COMPLETED
