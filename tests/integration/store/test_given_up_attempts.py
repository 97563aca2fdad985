"""An attempt that was given up although its agent has it: what the agent says of it is still true of the command."""

from __future__ import annotations

from typing import Any

import pytest

from distributor.model.agent import HeldCommand
from distributor.model.agent_session import MAX_UNACKNOWLEDGED_OUTPUT_BYTES
from distributor.model.command import Reason
from distributor.model.delivery import (
    NOT_DELIVERED,
    CancelProgress,
    CompletionOutcome,
    OutputRefusal,
    Progress,
    Release,
)
from distributor.model.lifecycle import CancelStage, CommandStatus
from distributor.store import keys
from tests.support.store_world import AGENT, LEASE, TERMINAL, StoreWorld, completion


async def given_up(world: StoreWorld, assigned_again: bool, **draft: Any) -> str:
    """The id of a command whose first attempt, under LEASE, was not acknowledged in time."""
    command_id = await world.assigned(**draft)
    await world.pass_deadline(command_id)
    await world.store.due([0])
    if assigned_again:
        assert (await world.claim(lease_id="lease2")).commands[0].attempt == 2
    return command_id


@pytest.mark.parametrize("assigned_again", [False, True], ids=["queued again", "assigned again"])
@pytest.mark.parametrize("status", TERMINAL)
async def test_its_outcome_is_the_commands_outcome(
    world: StoreWorld, status: CommandStatus, assigned_again: bool
) -> None:
    command_id = await given_up(world, assigned_again)
    report = completion(command_id, status, reason=Reason("known", "it is known"), ran=True)
    assert await world.store.finish([report]) == [CompletionOutcome.STORED]
    state = await world.state(command_id)
    assert (state.status, state.reason.code) == (status, "known")
    assert await world.store.finish([report]) == [CompletionOutcome.STORED], "its acknowledgement was lost"
    assert await world.store.finish([report._replace(exit_code=9)]) == [CompletionOutcome.LATE]
    assert (await world.claim(lease_id="lease3")).commands == []
    assert await world.deadline(command_id) is None


async def test_not_once_a_later_attempt_was_started(world: StoreWorld) -> None:
    command_id = await given_up(world, assigned_again=True)
    await world.store.progress([Progress(command_id, AGENT, "lease2", 1, 2, None)])
    acknowledged_only = await world.dump()
    await world.store.progress([Progress(command_id, AGENT, "lease2", None, None, 3)])
    before = await world.dump()
    assert before != acknowledged_only
    assert await world.store.finish([completion(command_id, ran=True)]) == [CompletionOutcome.STALE]
    assert await world.dump() == before


@pytest.mark.parametrize(
    ("agent_id", "lease_id", "ran", "outcome"),
    [
        ("other", LEASE, True, CompletionOutcome.FOREIGN),
        (AGENT, "never given out", True, CompletionOutcome.STALE),
        (AGENT, "", True, CompletionOutcome.STALE),
        (AGENT, LEASE[:-1], True, CompletionOutcome.STALE),
        (AGENT, f"{LEASE}=0", True, CompletionOutcome.STALE),
        (AGENT, LEASE, False, CompletionOutcome.STALE),
    ],
)
async def test_only_the_agents_own_outcome_of_a_real_attempt(
    world: StoreWorld, agent_id: str, lease_id: str, ran: bool, outcome: CompletionOutcome
) -> None:
    command_id = await given_up(world, assigned_again=True)
    before = await world.dump()
    report = completion(command_id, agent_id=agent_id, lease_id=lease_id, ran=ran)
    assert await world.store.finish([report]) == [outcome]
    assert await world.dump() == before


@pytest.mark.parametrize("assigned_again", [False, True], ids=["queued again", "assigned again"])
async def test_a_transient_failure_of_it_is_counted_and_run_again_once(world: StoreWorld, assigned_again: bool) -> None:
    command_id = await given_up(world, assigned_again, max_runs=2)
    report = completion(command_id, CommandStatus.FAILED, rerun_delay_ms=1, ran=True)
    assert await world.store.finish([report, report]) == [CompletionOutcome.RUN_AGAIN] * 2
    assert (await world.state(command_id)).status is CommandStatus.QUEUED
    assert (await world.hash(command_id))["runs"] == "1"
    assert (await world.claim(lease_id="lease3")).commands == []
    await world.end_delay(command_id)
    await world.store.due([0])
    assert [command.command_id for command in (await world.claim(lease_id="lease3")).commands] == [command_id]


@pytest.mark.parametrize("assigned_again", [False, True], ids=["queued again", "assigned again"])
async def test_an_agent_that_attaches_with_it_goes_on_with_it(world: StoreWorld, assigned_again: bool) -> None:
    command_id = await world.assigned()
    await world.print_output(command_id, 0, b"12345")
    await world.pass_deadline(command_id)
    await world.store.due([0])
    if assigned_again:
        await world.claim(lease_id="lease2")
    attached = await world.attach(held=(HeldCommand(command_id, LEASE),))
    assert attached.adopted[command_id].output_bytes == 5
    assert (await world.state(command_id)).status is CommandStatus.ASSIGNED
    assert await world.print_output(command_id, 5, b"678") == 8
    assert await world.print_output(command_id, 8, b"late", lease_id="lease2") is OutputRefusal.STALE
    assert await world.store.finish([completion(command_id, output_bytes=8)]) == [CompletionOutcome.STORED]
    (result,) = await world.reader.results([command_id])
    assert result is not None
    assert (result.output_bytes, result.output_dropped_bytes) == (8, 0)


@pytest.mark.parametrize("assigned_again", [False, True], ids=["queued again", "assigned again"])
async def test_its_output_is_the_commands_output(world: StoreWorld, assigned_again: bool) -> None:
    command_id = await given_up(world, assigned_again)
    assert await world.print_output(command_id, 0, b"12345") == 5
    assert await world.print_output(command_id, 3, b"4567") == 7
    assert await world.store.finish([completion(command_id, output_bytes=7, ran=True)]) == [CompletionOutcome.STORED]
    (result,) = await world.reader.results([command_id])
    assert result is not None
    assert (result.output_bytes, result.output_dropped_bytes) == (7, 0)
    assert b"".join(chunk.data for chunk in await world.output.read(command_id, 0, 100)) == b"1234567"


@pytest.mark.parametrize("assigned_again", [False, True], ids=["queued again", "assigned again"])
async def test_output_of_a_later_attempt_follows_its_output(world: StoreWorld, assigned_again: bool) -> None:
    command_id = await given_up(world, assigned_again)
    assert await world.print_output(command_id, 0, b"first") == 5
    if not assigned_again:
        await world.claim(lease_id="lease2")
    assert await world.print_output(command_id, 0, b"second", lease_id="lease2") == 6
    assert await world.print_output(command_id, 5, b"late") is OutputRefusal.STALE, "the later one has begun"
    assert b"".join(chunk.data for chunk in await world.output.read(command_id, 0, 100)) == b"firstsecond"


@pytest.mark.parametrize("offset", [MAX_UNACKNOWLEDGED_OUTPUT_BYTES + 1, 2**50])
async def test_its_output_has_no_larger_gap_than_its_agent_can_have_held_back(world: StoreWorld, offset: int) -> None:
    command_id = await given_up(world, assigned_again=True)
    before = await world.dump()
    assert await world.print_output(command_id, offset, b"x") is OutputRefusal.STALE
    assert await world.dump() == before
    assert (
        await world.print_output(command_id, MAX_UNACKNOWLEDGED_OUTPUT_BYTES, b"x")
        == MAX_UNACKNOWLEDGED_OUTPUT_BYTES + 1
    )


async def test_its_output_does_not_count_after_its_run(world: StoreWorld) -> None:
    command_id = await given_up(world, assigned_again=True, max_runs=2)
    report = completion(command_id, CommandStatus.FAILED, rerun_delay_ms=0, ran=True)
    assert await world.store.finish([report]) == [CompletionOutcome.RUN_AGAIN]
    assert await world.print_output(command_id, 0, b"late") is OutputRefusal.STALE


async def test_the_bytes_of_output_count_from_where_that_attempt_began(world: StoreWorld) -> None:
    command_id = await world.assigned()
    await world.print_output(command_id, 0, b"12345")
    await world.pass_deadline(command_id)
    await world.store.due([0])
    await world.claim(lease_id="lease2")
    assert await world.store.finish([completion(command_id, output_bytes=7, ran=True)]) == [CompletionOutcome.STORED]
    (result,) = await world.reader.results([command_id])
    assert result is not None
    assert result.output_bytes == 7


async def test_no_more_output_is_counted_than_its_agent_can_have_held_back(world: StoreWorld) -> None:
    """What it was not allowed to store under this lease, it may still have: at most a window of it."""
    command_id = await world.assigned()
    await world.print_output(command_id, 0, b"12345")
    await world.pass_deadline(command_id)
    await world.store.due([0])
    await world.claim(lease_id="lease2")
    assert await world.store.finish([completion(command_id, output_bytes=2**50, ran=True)]) == [
        CompletionOutcome.STORED
    ]
    (result,) = await world.reader.results([command_id])
    assert result is not None
    assert result.output_bytes == 5 + MAX_UNACKNOWLEDGED_OUTPUT_BYTES


async def test_the_latest_eight_are_remembered(world: StoreWorld) -> None:
    command_id = await world.assigned(lease_id="old1")
    for number in range(2, 11):
        await world.store.release([Release(command_id, AGENT, f"old{number - 1}", 0, Reason("busy"), counts=False)])
        await world.claim(lease_id=f"old{number}")
    assert len((await world.hash(command_id))["given_up"].split()) == 8
    assert await world.store.finish([completion(command_id, lease_id="old1", ran=True)]) == [CompletionOutcome.STALE]
    assert await world.store.finish([completion(command_id, lease_id="old2", ran=True)]) == [CompletionOutcome.STORED]


async def test_two_attempts_reported_in_one_call_leave_nothing_in_the_queue(world: StoreWorld) -> None:
    command_id = await given_up(world, assigned_again=True, max_runs=3)
    await world.pass_deadline(command_id)
    await world.store.due([0])
    await world.claim(lease_id="lease3")
    failed = completion(command_id, CommandStatus.FAILED, rerun_delay_ms=5_000, ran=True)
    completed = completion(command_id, lease_id="lease2", ran=True)
    outcomes = await world.store.finish([failed, completed])
    assert outcomes == [CompletionOutcome.RUN_AGAIN, CompletionOutcome.STORED]
    dump = await world.dump()
    indexes = {name for name, (kind, content, _) in dump.items() if kind != "string" and command_id in content}
    assert indexes == {
        keys.in_shard(keys.AGENT_COMMANDS.format(agent_id=AGENT)),
        keys.in_shard(keys.BY_STATUS.format(status=CommandStatus.COMPLETED)),
        keys.in_shard(keys.ENDED),
    }


async def test_a_run_reported_under_both_of_its_leases_is_counted_once(world: StoreWorld) -> None:
    command_id = await given_up(world, assigned_again=True, max_runs=2)
    for lease_id in (LEASE, "lease2", LEASE):
        report = completion(command_id, CommandStatus.FAILED, lease_id=lease_id, rerun_delay_ms=5, ran=True)
        assert await world.store.finish([report]) == [CompletionOutcome.RUN_AGAIN], lease_id
    assert (await world.state(command_id)).status is CommandStatus.QUEUED


async def test_the_attempts_that_have_ended_are_remembered(world: StoreWorld) -> None:
    command_id = await given_up(world, assigned_again=True, max_runs=3)
    await world.store.progress([Progress(command_id, AGENT, "lease2", 1, 2, 3)])
    reason = Reason("exit_nonzero", 'said "no"\n')
    again = completion(command_id, CommandStatus.FAILED, lease_id="lease2", reason=reason, rerun_delay_ms=1, ran=True)
    await world.store.finish([again])
    first, second = (await world.details(command_id)).state.attempts
    assert (first.number, first.agent_id, first.reason.code, first.started) == (1, AGENT, "not_acknowledged", False)
    assert first.receipts.assigned_ms <= first.receipts.finished_ms
    assert (second.number, second.reason, second.started) == (2, reason, True)
    assert second.receipts.started_ms == second.receipts.assigned_ms + 3
    await world.end_delay(command_id)
    await world.store.due([0])
    await world.claim(lease_id="lease3")
    await world.store.finish([completion(command_id, lease_id="lease3", ran=True)])
    (result,) = await world.reader.results([command_id])
    assert result is not None
    assert result.attempts == (first, second)


async def test_the_latest_twenty_attempts_are_remembered(world: StoreWorld) -> None:
    command_id = await world.assigned(lease_id="lease1")
    for number in range(1, 23):
        refused = Release(command_id, AGENT, f"lease{number}", 0, Reason("busy"), counts=False, refused=True)
        assert await world.store.release([refused]) == [CommandStatus.QUEUED]
        await world.claim(lease_id=f"lease{number + 1}")
    attempts = (await world.details(command_id)).state.attempts
    assert [attempt.number for attempt in attempts] == list(range(3, 23))


async def numbers_and_codes(world: StoreWorld, command_id: str) -> list[tuple[int, str]]:
    """The attempts that have ended without ending the command."""
    attempts = (await world.details(command_id)).state.attempts
    return [(attempt.number, attempt.reason.code) for attempt in attempts]


@pytest.mark.parametrize("assigned_again", [False, True], ids=["queued again", "assigned again"])
async def test_its_outcome_is_shown_with_its_own_number_and_times(world: StoreWorld, assigned_again: bool) -> None:
    command_id = await world.assigned()
    assigned_ms = (await world.state(command_id)).receipts.assigned_ms
    await world.next_millisecond()
    await world.pass_deadline(command_id)
    await world.store.due([0])
    if assigned_again:
        await world.claim(lease_id="lease2")
    report = completion(command_id, ran=True)._replace(progress=Progress(command_id, AGENT, LEASE))
    assert await world.store.finish([report]) == [CompletionOutcome.STORED]
    state = await world.state(command_id)
    assert (state.attempt, state.receipts.assigned_ms) == (1, assigned_ms)
    assert state.receipts.acknowledged_ms > 0 < state.receipts.started_ms
    assert await numbers_and_codes(world, command_id) == ([(2, "duplicate")] if assigned_again else [])
    (result,) = await world.reader.results([command_id])
    assert result is not None
    assert (result.attempt, [attempt.number for attempt in result.attempts]) == (1, [2] if assigned_again else [])


@pytest.mark.parametrize("assigned_again", [False, True], ids=["queued again", "assigned again"])
async def test_its_run_is_in_the_history_once_and_later_attempts_get_new_numbers(
    world: StoreWorld, assigned_again: bool
) -> None:
    command_id = await given_up(world, assigned_again, max_runs=2)
    report = completion(
        command_id, CommandStatus.FAILED, rerun_delay_ms=1, ran=True, reason=Reason("exit_nonzero", "exit code 75")
    )
    await world.store.finish([report])
    attempts = (await world.details(command_id)).state.attempts
    expected = [(1, "exit_nonzero", True)]
    assert [(one.number, one.reason.code, one.started) for one in attempts if one.started] == expected
    assert sorted(one.number for one in attempts) == ([1, 2] if assigned_again else [1])
    await world.end_delay(command_id)
    await world.store.due([0])
    (claimed,) = (await world.claim(lease_id="lease3")).commands
    assert claimed.attempt == (3 if assigned_again else 2)


@pytest.mark.parametrize("refused", [False, True])
async def test_an_agent_that_goes_on_with_it_goes_on_with_its_number(world: StoreWorld, refused: bool) -> None:
    command_id = await world.assigned()
    first = await world.state(command_id)
    await world.next_millisecond()
    await world.pass_deadline(command_id)
    await world.store.due([0])
    await world.claim(lease_id="lease2")
    attached = await world.attach(held=(HeldCommand(command_id, LEASE),))
    adopted = attached.adopted[command_id]
    assert (adopted.attempt, adopted.assigned_ms) == (1, first.receipts.assigned_ms)
    state = await world.state(command_id)
    assert (state.attempt, state.receipts.assigned_ms) == (1, first.receipts.assigned_ms)
    assert await numbers_and_codes(world, command_id) == [(2, "duplicate")]
    if refused:
        await world.store.release([Release(command_id, AGENT, LEASE, 0, Reason("busy"), refused=True)])
        assert await numbers_and_codes(world, command_id) == [(2, "duplicate"), (1, "busy")]
        assert (await world.claim(lease_id="lease3")).commands[0].attempt == 3


async def test_what_waits_for_word_of_it_has_its_times(world: StoreWorld) -> None:
    command_id = await world.assigned()
    assigned_ms = (await world.state(command_id)).receipts.assigned_ms
    await world.next_millisecond()
    await world.pass_deadline(command_id)
    await world.store.due([0])
    await world.store.cancel(command_id, "enough")
    state = await world.state(command_id)
    assert (state.reason.code, state.attempt, state.receipts.assigned_ms) == ("unconfirmed", 1, assigned_ms)
    assert await numbers_and_codes(world, command_id) == []


async def in_doubt(world: StoreWorld) -> str:
    """The id of a cancelled command whose only attempt was not acknowledged in time."""
    command_id = await given_up(world, assigned_again=False)
    await world.store.cancel(command_id, "enough")
    assert (await world.state(command_id)).reason.code == "unconfirmed"
    return command_id


async def test_a_start_that_ends_the_doubt_is_shown(world: StoreWorld) -> None:
    command_id = await in_doubt(world)
    assert await world.store.progress([Progress(command_id, AGENT, LEASE, past_start=True)]) == [True]
    state = await world.state(command_id)
    assert (state.reason.code, state.cancel_stage) == ("cancel_requested", CancelStage.REQUESTED)
    assert state.receipts.started_ms > 0 < state.receipts.acknowledged_ms
    released = Release(command_id, AGENT, LEASE, 0, Reason("busy"), refused=True)
    assert await world.store.release([released]) == [None], "it has started"


async def test_what_was_not_sent_after_all_is_no_longer_in_doubt(world: StoreWorld) -> None:
    command_id = await world.assigned()
    await world.store.cancel(command_id, "enough")
    await world.pass_deadline(command_id)
    await world.store.due([0])
    assert (await world.state(command_id)).reason.code == "unconfirmed"
    unsent = Release(command_id, AGENT, LEASE, 0, NOT_DELIVERED, counts=False, unsent=True)
    assert await world.store.release([unsent._replace(unsent=False)]) == [None], "nothing new is known"
    assert await world.store.release([unsent]) == [CommandStatus.CANCELLED]


async def test_that_a_cancel_was_written_does_not_end_the_doubt(world: StoreWorld) -> None:
    command_id = await in_doubt(world)
    before = await world.dump()
    written = CancelProgress(command_id, AGENT, LEASE, CancelStage.DELIVERED)
    assert await world.store.cancel_stages([written]) == [False]
    assert await world.dump() == before


async def test_which_processes_could_not_be_stopped_is_kept_when_the_agent_attaches_again(world: StoreWorld) -> None:
    command_id = await world.acknowledged()
    await world.store.cancel(command_id, "enough")
    survived = CancelProgress(command_id, AGENT, LEASE, CancelStage.COULD_NOT_STOP, "still running: 17 (sh)")
    assert await world.store.cancel_stages([survived]) == [True]
    before = await world.state(command_id)
    attached = await world.attach(held=(HeldCommand(command_id, LEASE),))
    assert attached.adopted[command_id].cancel_reason == "enough"
    state = await world.state(command_id)
    assert (state.cancel_stage, state.reason) == (CancelStage.COULD_NOT_STOP, before.reason)
    assert state.reason.message == "still running: 17 (sh)"
