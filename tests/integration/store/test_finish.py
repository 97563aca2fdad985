from __future__ import annotations

import json
from datetime import datetime

import pytest
from google.protobuf import json_format

from distributor.model.command import CommandResult, Reason
from distributor.model.delivery import Completion, CompletionOutcome
from distributor.model.event import LateReport
from distributor.model.lifecycle import CommandStatus
from distributor.store import keys
from distributor.v1 import command_pb2
from tests.support.store_world import (
    AGENT,
    ENDING_KEYS,
    LEASE,
    TERMINAL,
    StoreWorld,
    agent_index,
    changed,
    completion,
    own_keys,
    status_index,
)

FIXED_KEYS = (keys.COMMAND, keys.STATUS, keys.AGENT_COMMAND, keys.RESULT)


@pytest.mark.parametrize("status", CommandStatus)
async def test_only_an_assigned_command_takes_a_result(world: StoreWorld, status: CommandStatus) -> None:
    command_id = await world.command(status)
    before = await world.dump()
    (outcome,) = await world.store.finish([completion(command_id, CommandStatus.FAILED, reason=Reason("x", "y"))])
    after = await world.dump()
    if status is CommandStatus.ASSIGNED:
        assert outcome is CompletionOutcome.STORED
        assert (await world.state(command_id)).status is CommandStatus.FAILED
        assert changed(before, after) == {
            *own_keys(command_id, *ENDING_KEYS),
            *agent_index(keys.ASSIGNED),
            *status_index(CommandStatus.ASSIGNED, CommandStatus.FAILED),
            keys.DEADLINES,
            keys.ENDED,
            keys.EVENTS,
        }
    elif status is CommandStatus.QUEUED:
        assert outcome is CompletionOutcome.STALE
        assert after == before
    else:
        assert outcome is CompletionOutcome.LATE
        assert changed(before, after) == {*own_keys(command_id, keys.LATE_RESULT), keys.EVENTS}


@pytest.mark.parametrize("status", TERMINAL)
async def test_a_later_report_is_kept_beside_the_result(world: StoreWorld, status: CommandStatus) -> None:
    command_id = await world.ended(status)
    late = completion(command_id, CommandStatus.FAILED, reason=Reason("exit_nonzero", "exit code 3"), exit_code=3)
    await world.store.finish([late])
    text = await world.connection.call("GET", keys.LATE_RESULT.format(command_id=command_id))
    document = json.loads(text)
    assert (document["status"], document["exitCode"], document["reason"]["code"]) == ("failed", 3, "exit_nonzero")
    assert await world.connection.call("PTTL", keys.LATE_RESULT.format(command_id=command_id)) > 0
    (result,) = await world.reader.results([command_id])
    assert result is not None
    assert result.status is (await world.state(command_id)).status is status
    late_result = (await world.details(command_id)).late
    assert late_result is not None
    assert (late_result.status, late_result.exit_code) == (CommandStatus.FAILED, 3)


async def test_a_late_report_is_announced(world: StoreWorld) -> None:
    command_id = await world.ended(CommandStatus.TIMEOUT)
    position = await world.position()
    await world.store.finish([completion(command_id)])
    assert await world.events(position) == [LateReport(command_id, AGENT, CommandStatus.COMPLETED)]


ENDS = [
    completion("", exit_code=0, data_json='{"pages":2}', output_bytes=7, ran=True),
    completion("", CommandStatus.FAILED, reason=Reason("exit_nonzero", 'exit "code" 3'), exit_code=3, ran=True),
    completion("", CommandStatus.TIMEOUT, reason=Reason("time_limit", "ran for 1 s"), ran=True),
    completion("", CommandStatus.CANCELLED, reason=Reason("cancelled", "enough"), ran=True),
]


@pytest.mark.parametrize("given_up", [False, True], ids=["current lease", "given-up lease"])
@pytest.mark.parametrize("end", ENDS, ids=[one.status.value for one in ENDS])
async def test_a_result_whose_acknowledgement_was_lost_is_not_kept_twice(
    world: StoreWorld, end: Completion, given_up: bool
) -> None:
    command_id = await (world.assigned() if given_up else world.acknowledged())
    if given_up:
        await world.pass_deadline(command_id)
        await world.store.due([0])
    end = end._replace(progress=end.progress._replace(command_id=command_id))
    assert await world.store.finish([end]) == [CompletionOutcome.STORED]
    await world.next_millisecond()
    before = await world.dump()
    assert await world.store.finish([end]) == [CompletionOutcome.STORED]
    assert await world.dump() == before
    others = [end._replace(exit_code=9), end._replace(progress=end.progress._replace(lease_id="lease2"))]
    assert await world.store.finish(others) == [CompletionOutcome.LATE] * 2


@pytest.mark.parametrize(
    ("agent_id", "lease_id", "outcome"),
    [
        ("other", "lease1", CompletionOutcome.FOREIGN),
        (AGENT, "lease0", CompletionOutcome.STALE),
        (AGENT, "", CompletionOutcome.STALE),
    ],
)
async def test_a_result_of_somebody_else_changes_nothing(
    world: StoreWorld, agent_id: str, lease_id: str, outcome: CompletionOutcome
) -> None:
    command_id = await world.acknowledged()
    before = await world.dump()
    assert await world.store.finish([completion(command_id, agent_id=agent_id, lease_id=lease_id)]) == [outcome]
    assert await world.dump() == before


async def test_another_agent_cannot_leave_a_late_report(world: StoreWorld) -> None:
    command_id = await world.ended(CommandStatus.COMPLETED)
    before = await world.dump()
    assert await world.store.finish([completion(command_id, agent_id="other")]) == [CompletionOutcome.FOREIGN]
    assert await world.dump() == before


async def test_an_unknown_command_leaves_nothing(world: StoreWorld) -> None:
    assert await world.store.finish([completion(world.new_id())]) == [CompletionOutcome.UNKNOWN]
    assert await world.dump() == {}


async def test_an_answer_for_each_also_for_the_same_twice(world: StoreWorld) -> None:
    command_id = await world.acknowledged()
    completed, failed = completion(command_id), completion(command_id, CommandStatus.FAILED)
    outcomes = await world.store.finish([completion(world.new_id()), completed, failed])
    assert outcomes == [CompletionOutcome.UNKNOWN, CompletionOutcome.STORED, CompletionOutcome.LATE]
    assert (await world.state(command_id)).status is CommandStatus.COMPLETED


async def test_the_result_is_the_json_of_its_message(world: StoreWorld) -> None:
    """Programs in other languages read it: protobuf JSON names and forms, but for the status as its plain word."""
    command_id = await world.acknowledged(kind="EXEC")
    data = {"list": [1, 2.5, None], "text": 'tab\t "quoted" é\u2028'}
    await world.store.finish(
        [
            completion(
                command_id,
                CommandStatus.FAILED,
                reason=Reason("exit_nonzero", 'said "no"\n\té\\'),
                exit_code=-9,
                data_json=json.dumps(data),
                output_bytes=12,
            )
        ]
    )
    text = await world.connection.call("GET", keys.RESULT.format(command_id=command_id))
    document = json.loads(text)
    fields = command_pb2.CommandResult.DESCRIPTOR.fields
    assert set(document) == {field.json_name for field in fields}
    assert document["status"] == "failed"
    document["status"] = "COMMAND_STATUS_FAILED"
    message = json_format.ParseDict(document, command_pb2.CommandResult())
    assert (message.command_id, message.agent_id, message.type, message.attempt) == (command_id, AGENT, "EXEC", 1)
    assert (message.reason.code, message.reason.message) == ("exit_nonzero", 'said "no"\n\té\\')
    assert (message.exit_code, message.output_bytes, message.output_dropped_bytes) == (-9, 12, 0)
    assert json_format.MessageToDict(message.data) == data
    finished_ms = (await world.state(command_id)).receipts.finished_ms
    assert message.finish_time.ToMilliseconds() == finished_ms
    assert datetime.fromisoformat(document["finishTime"]).timestamp() == finished_ms / 1000


async def test_what_a_result_does_not_have_is_null(world: StoreWorld) -> None:
    command_id = await world.ended(CommandStatus.COMPLETED)
    document = json.loads(await world.connection.call("GET", keys.RESULT.format(command_id=command_id)))
    assert [document[name] for name in ("exitCode", "data", "reason")] == [None, None, None]
    (result,) = await world.reader.results([command_id])
    finished_ms = (await world.state(command_id)).receipts.finished_ms
    assert result == CommandResult(
        command_id, AGENT, "PRINT", CommandStatus.COMPLETED, 1, Reason(), None, None, 0, 0, finished_ms
    )


@pytest.mark.parametrize("status", CommandStatus)
async def test_the_result_expires_and_the_sweep_deletes_the_rest(world: StoreWorld, status: CommandStatus) -> None:
    command_id = await world.command(status)
    ttls = [
        await world.connection.call("PTTL", name.format(command_id=command_id, agent_id=AGENT)) for name in FIXED_KEYS
    ]
    if status.terminal:
        assert ttls[0] == -2, "command:queue of an ended command is deleted"
        assert ttls[1:-1] == [-1, -1]
        assert world.policy.retention_ms - 10_000 < ttls[-1] <= world.policy.retention_ms
    else:
        assert ttls == [-1, -1, -1, -2], "no TTL, and no result yet"


async def test_receipts_that_come_with_the_result(world: StoreWorld) -> None:
    command_id = await world.assigned()
    await world.store.finish([completion(command_id)])
    receipts = (await world.state(command_id)).receipts
    stages = (receipts.sent_ms, receipts.acknowledged_ms, receipts.started_ms)
    assert [stage - receipts.assigned_ms for stage in stages] == [1, 2, 3]


async def test_a_transient_failure_runs_again_while_runs_are_left(world: StoreWorld) -> None:
    command_id = await world.acknowledged(max_runs=3)
    transient = completion(command_id, CommandStatus.FAILED, reason=Reason("busy_disk", "try later"), rerun_delay_ms=0)
    before = await world.dump()
    assert await world.store.finish([transient]) == [CompletionOutcome.RUN_AGAIN]
    state = await world.state(command_id)
    assert (state.status, state.attempt, state.reason.code) == (CommandStatus.QUEUED, 1, "busy_disk")
    assert changed(before, await world.dump()) == {
        *own_keys(command_id, keys.STATUS),
        *agent_index(keys.READY, keys.ASSIGNED),
        *status_index(CommandStatus.QUEUED, CommandStatus.ASSIGNED),
        keys.DEADLINES,
        keys.EVENTS,
    }
    for lease_id, outcome in (("lease2", CompletionOutcome.RUN_AGAIN), ("lease3", CompletionOutcome.STORED)):
        await world.claim(lease_id=lease_id)
        later = completion(command_id, CommandStatus.FAILED, lease_id=lease_id, rerun_delay_ms=0)
        assert await world.store.finish([later]) == [outcome]
    state = await world.state(command_id)
    assert (state.status, state.attempt) == (CommandStatus.FAILED, 3)


@pytest.mark.parametrize(
    ("codes", "runs"),
    [
        (["flaky"] * 9, 4),
        (["other"] * 9, 2),
        ([""] * 9, 2),
        (["flaky", "other"], 2),
        (["flaky", "flaky", "other"], 3),
        (["once"], 1),
        (["flak"] * 9, 2),
        (["aky"] * 9, 2),
    ],
)
async def test_the_reason_of_a_failure_decides_how_many_runs_there_may_be(
    world: StoreWorld, codes: list[str], runs: int
) -> None:
    command_id = await world.acknowledged(max_runs=2, max_runs_by_reason=(("flaky", 4), ("once", 1)))
    lease_id, done = LEASE, 0
    for done, code in enumerate(codes, 1):
        failure = completion(command_id, CommandStatus.FAILED, lease_id=lease_id, reason=Reason(code), rerun_delay_ms=0)
        if await world.store.finish([failure]) == [CompletionOutcome.STORED]:
            break
        lease_id = f"lease-{done}"
        await world.claim(lease_id=lease_id)
    assert done == runs
    assert (await world.state(command_id)).status is CommandStatus.FAILED


@pytest.mark.parametrize("given_out_again", [False, True])
async def test_a_run_that_is_reported_again_counts_once(world: StoreWorld, given_out_again: bool) -> None:
    command_id = await world.acknowledged(max_runs=2)
    transient = completion(command_id, CommandStatus.FAILED, reason=Reason("flaky"), rerun_delay_ms=0)
    assert await world.store.finish([transient, transient]) == [CompletionOutcome.RUN_AGAIN] * 2
    if given_out_again:
        await world.claim(lease_id="lease2")
    before = await world.dump()
    assert await world.store.finish([transient]) == [CompletionOutcome.RUN_AGAIN]
    assert await world.dump() == before
    if not given_out_again:
        await world.claim(lease_id="lease2")
    last = completion(command_id, CommandStatus.FAILED, lease_id="lease2", rerun_delay_ms=0)
    assert await world.store.finish([last]) == [CompletionOutcome.STORED]
    assert await world.store.finish([transient]) == [CompletionOutcome.LATE]


async def test_a_report_without_a_lease_is_of_no_run(world: StoreWorld) -> None:
    command_id = await world.acknowledged(max_runs=2)
    report = completion(command_id, CommandStatus.FAILED, lease_id="", rerun_delay_ms=0)
    assert await world.store.finish([report]) == [CompletionOutcome.STALE]


async def test_runs_do_not_count_as_failed_deliveries(world: StoreWorld) -> None:
    world = world.under(delivery_attempts=2)
    command_id = await world.acknowledged(max_runs=2)
    await world.store.finish([completion(command_id, CommandStatus.FAILED, rerun_delay_ms=0)])
    after = []
    for lease_id in ("lease2", "lease3"):
        await world.claim(lease_id=lease_id)
        await world.pass_deadline(command_id)
        await world.store.due([0])
        state = await world.state(command_id)
        after.append((state.attempt, state.status))
    assert state.reason.code == "unconfirmed", "no attempts remain, but the agent may have the last one"
    assert after == [(2, CommandStatus.QUEUED), (3, CommandStatus.ASSIGNED)]


async def test_a_cancelled_command_does_not_run_again(world: StoreWorld) -> None:
    command_id = await world.acknowledged(max_runs=3)
    await world.store.cancel(command_id, "enough")
    outcomes = await world.store.finish([completion(command_id, CommandStatus.FAILED, rerun_delay_ms=0)])
    assert outcomes == [CompletionOutcome.STORED]


async def test_output_of_all_runs_is_counted_also_what_did_not_arrive(world: StoreWorld) -> None:
    command_id = await world.acknowledged(max_runs=2)
    await world.print_output(command_id, 0, b"first")
    await world.store.finish([completion(command_id, CommandStatus.FAILED, output_bytes=5, rerun_delay_ms=0)])
    await world.claim(lease_id="lease2")
    await world.print_output(command_id, 0, b"second!", lease_id="lease2")
    await world.store.finish([completion(command_id, lease_id="lease2", output_bytes=9)])
    (result,) = await world.reader.results([command_id])
    assert result is not None
    assert result.output_bytes == 14
    assert (await world.details(command_id)).output_bytes == 12


async def test_output_that_is_stored_is_counted_whatever_the_agent_says(world: StoreWorld) -> None:
    command_id = await world.acknowledged()
    await world.print_output(command_id, 0, b"12345")
    await world.store.finish([completion(command_id, CommandStatus.CANCELLED, output_bytes=0)])
    (result,) = await world.reader.results([command_id])
    assert result is not None
    assert result.output_bytes == 5
    assert await world.connection.call("PTTL", keys.OUTPUT.format(command_id=command_id)) == -1
