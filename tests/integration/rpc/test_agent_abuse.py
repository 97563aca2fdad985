"""Reports that contradict earlier ones, or the attempt that they name: each has its answer, and takes nothing away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1 import command_pb2
from distributor.v1.command_service_pb2 import CancelCommandRequest, WatchCommandRequest
from tests.support.received_errors import told
from tests.support.running_server import (
    ASSIGNED,
    CANCELLED,
    COMPLETED,
    FAILED,
    RunningServer,
    queue_request,
    quick_settings,
    running_server,
)
from tests.support.waiting import PATIENCE_SECONDS
from tests.support.wire_agent import WireAgent, result, running

PIECE = b"x" * 65_536
LIMIT = 2**53


@pytest.fixture
async def agent(server: RunningServer) -> AsyncIterator[WireAgent]:
    """An agent that runs one command, which may run twice."""
    async with server.agent() as agent:
        command_id = await server.queue(max_runs=2)
        assignment = await agent.next_assignment(command_id)
        await agent.start(assignment)
        yield agent


def output(assignment: pb.Assignment, offset: int, data: bytes = b"x", **changes: Any) -> pb.Output:
    fields: dict[str, Any] = {
        "command_id": assignment.command.command_id,
        "lease_id": assignment.lease_id,
        "stream": command_pb2.OUTPUT_STREAM_STDOUT,
        "offset": offset,
        "data": data,
    }
    return pb.Output(**fields | changes)


async def violation(agent: WireAgent) -> tuple[str, str]:
    """The field that the server names as it ends the stream, and what it says."""
    assert await agent.ended() is grpc.StatusCode.INVALID_ARGUMENT
    error = told(grpc.StatusCode.INVALID_ARGUMENT, agent.details, agent.trailing)
    assert error.reason == "PROTOCOL_VIOLATION"
    return error.field, error.text


async def read_output(server: RunningServer, command_id: str) -> bytes:
    request = WatchCommandRequest(command_id=command_id)
    updates = server.commands.WatchCommand(request, timeout=PATIENCE_SECONDS)
    return b"".join([update.output.data async for update in updates])


# Refused


@pytest.mark.parametrize("code", pb.RefusalCode.values()[1:])
async def test_a_started_command_cannot_be_refused(
    server: RunningServer, agent: WireAgent, code: pb.RefusalCode.ValueType
) -> None:
    (assignment,) = agent.assignments
    await agent.refuse(assignment, code)
    await agent.heartbeat(credit=4, running=1)
    assert (await server.state(assignment.command.command_id)).status == ASSIGNED
    (ack,) = await agent.finish(assignment)
    assert ack.verdict == pb.RESULT_VERDICT_STORED
    assert (await server.state(assignment.command.command_id)).attempt == 1


async def test_a_refusal_in_the_message_of_the_start_comes_too_late(server: RunningServer) -> None:
    async with server.agent() as agent:
        assignment = await agent.next_assignment(await server.queue())
        lease: dict[str, Any] = {"command_id": assignment.command.command_id, "lease_id": assignment.lease_id}
        await agent.send(started=[pb.Started(**lease)], refused=[pb.Refused(**lease, code=pb.REFUSAL_CODE_BUSY)])
        (ack,) = await agent.finish(assignment)
        assert ack.verdict == pb.RESULT_VERDICT_STORED


async def test_output_proves_that_a_command_was_started(server: RunningServer) -> None:
    async with server.agent() as agent:
        assignment = await agent.next_assignment(await server.queue())
        await agent.print(assignment, b"running", 0)
        await agent.refuse(assignment, pb.REFUSAL_CODE_BUSY)
        state = await server.state(assignment.command.command_id)
        assert state.receipts.HasField("start_time")
        (ack,) = await agent.finish(assignment, output_bytes=7)
        assert ack.verdict == pb.RESULT_VERDICT_STORED


async def test_a_refused_command_has_no_result_of_that_attempt(valkey_url: str) -> None:
    async with running_server(valkey_url, retry_first=60.0, retry_most=60.0) as server, server.agent() as agent:
        command_id = await server.queue()
        assignment = await agent.next_assignment(command_id)
        await agent.refuse(assignment, pb.REFUSAL_CODE_STALE)
        (ack,) = await agent.finish(assignment)
        assert (ack.verdict, ack.reason.code) == (pb.RESULT_VERDICT_REJECTED, "stale_lease")
        assert ack.lease_id == assignment.lease_id


# CancelReport


async def test_a_cancel_that_was_never_sent_cannot_be_answered(server: RunningServer, agent: WireAgent) -> None:
    (assignment,) = agent.assignments
    command_id = assignment.command.command_id
    unknown = pb.CancelReport(command_id=command_id, lease_id=assignment.lease_id, finding=pb.CANCEL_FINDING_UNKNOWN)
    await agent.send(cancel_reports=[unknown])
    (ack,) = await agent.finish(assignment)
    assert ack.verdict == pb.RESULT_VERDICT_STORED
    assert (await server.state(command_id)).status == COMPLETED


async def test_the_callers_reason_of_a_cancel_survives_a_reconnect(server: RunningServer) -> None:
    async with server.agent() as agent:
        command_id = await server.queue()
        assignment = await agent.next_assignment(command_id)
        await agent.start(assignment)
        await server.until_state(command_id, lambda state: state.receipts.HasField("start_time"))
        await server.commands.CancelCommand(CancelCommandRequest(command_id=command_id, reason="wrong paper"))
        await agent.until(lambda: agent.cancels)
    async with server.agent(running=[running(assignment)]) as agent:
        (cancel,) = await agent.until(lambda: agent.cancels)
        assert (cancel.command_id, cancel.lease_id, cancel.reason) == (command_id, assignment.lease_id, "wrong paper")
        state = await server.state(command_id)
        assert (state.status, state.reason.code, state.reason.message) == (ASSIGNED, "cancel_requested", "wrong paper")
        unknown = pb.CancelReport(
            command_id=command_id, lease_id=assignment.lease_id, finding=pb.CANCEL_FINDING_UNKNOWN
        )
        await agent.send(cancel_reports=[unknown])
        kept = await server.result(command_id)
        assert (kept.status, kept.reason.code, kept.reason.message) == (CANCELLED, "cancelled", "wrong paper")


# Results


@pytest.mark.parametrize("repeated", [True, False])
async def test_a_result_of_the_run_before_is_stale_once_the_next_run_has_started(
    server: RunningServer, agent: WireAgent, repeated: bool
) -> None:
    (first,) = agent.assignments
    command_id = first.command.command_id
    (ack,) = await agent.finish(first, status=FAILED, transient=True)
    assert (ack.verdict, ack.lease_id) == (pb.RESULT_VERDICT_STORED, first.lease_id)
    second = await agent.next_assignment(command_id, attempt=2)
    await agent.start(second)
    again = {"status": FAILED, "transient": True} if repeated else {"status": COMPLETED}
    (ack,) = await agent.finish(first, **again)
    assert (ack.verdict, ack.reason.code) == (pb.RESULT_VERDICT_REJECTED, "stale_lease")
    assert ack.lease_id == first.lease_id
    assert (await server.state(command_id)).status == ASSIGNED
    (ack,) = await agent.finish(second)
    assert (ack.verdict, ack.lease_id) == (pb.RESULT_VERDICT_STORED, second.lease_id)


async def test_another_result_of_a_counted_run_is_not_said_to_be_stored(valkey_url: str) -> None:
    async with running_server(valkey_url, retry_first=60.0, retry_most=60.0) as server, server.agent() as agent:
        command_id = await server.queue(max_runs=2)
        assignment = await agent.next_assignment(command_id)
        await agent.finish(assignment, status=FAILED, transient=True)
        (repeated,) = await agent.finish(assignment, status=FAILED, transient=True)
        assert repeated.verdict == pb.RESULT_VERDICT_STORED
        (other,) = await agent.finish(assignment, status=COMPLETED)
        assert (other.verdict, other.reason.code) == (pb.RESULT_VERDICT_REJECTED, "stale_lease")


# Output


async def output_ack(agent: WireAgent, piece: pb.Output) -> pb.OutputAck:
    """The answer to one piece of output."""
    before = len(agent.output_answers(piece.command_id))
    await agent.send(output=[piece])
    await agent.until(lambda: len(agent.output_answers(piece.command_id)) > before)
    return agent.output_answers(piece.command_id)[-1]


async def test_output_under_the_lease_of_the_run_before_is_not_acknowledged(
    server: RunningServer, agent: WireAgent
) -> None:
    (first,) = agent.assignments
    await agent.finish(first, status=FAILED, transient=True)
    second = await agent.next_assignment(first.command.command_id, attempt=2)
    await agent.start(second)
    ack = await output_ack(agent, output(first, 0, b"of the first run"))
    assert (ack.offset, ack.reason.code, ack.lease_id) == (0, "stale_lease", first.lease_id)
    ack = await output_ack(agent, output(second, 0, b"of the second"))
    assert (ack.offset, ack.HasField("reason"), ack.lease_id) == (13, False, second.lease_id)
    await agent.finish(second, output_bytes=13)
    assert await read_output(server, first.command.command_id) == b"of the second"


async def test_output_that_nobody_wants_says_why(server: RunningServer, agent: WireAgent) -> None:
    (assignment,) = agent.assignments
    ack = await output_ack(agent, output(assignment, 0, lease_id="made up"))
    assert (ack.offset, ack.reason.code, ack.lease_id) == (0, "stale_lease", "made up")
    async with server.agent("other") as other:
        ack = await output_ack(other, output(assignment, 0))
        assert (ack.offset, ack.reason.code) == (0, "unknown_command")
    await agent.finish(assignment)
    ack = await output_ack(agent, output(assignment, 0))
    assert (ack.offset, ack.reason.code) == (0, "command_ended")


@pytest.mark.parametrize("offset", [1, 65_536, LIMIT - 1])
async def test_a_gap_in_the_output_of_a_stream_is_a_violation(agent: WireAgent, offset: int) -> None:
    (assignment,) = agent.assignments
    assert await agent.print(assignment, b"0123", 0) == 4
    await agent.send(output=[output(assignment, 4 + offset if offset < LIMIT - 1 else offset)])
    field, text = await violation(agent)
    assert field == "output.offset"
    assert "must be at most 4" in text


async def test_output_of_a_new_lease_starts_at_its_beginning(agent: WireAgent) -> None:
    (assignment,) = agent.assignments
    await agent.send(output=[output(assignment, 1)])
    field, text = await violation(agent)
    assert field == "output.offset"
    assert "must be at most 0" in text


async def test_after_a_reconnect_output_may_start_where_it_was_no_longer_held_and_no_later(
    server: RunningServer, agent: WireAgent
) -> None:
    (assignment,) = agent.assignments
    await agent.print(assignment, b"0123", 0)
    async with server.agent(running=[running(assignment, 10)]) as again:
        # Valkey may have lost what was acknowledged.
        assert await again.print(assignment, b"89", 8) == 10
        await again.send(output=[output(assignment, 11)])
        assert (await violation(again))[0] == "output.offset"
    async with server.agent(running=[running(assignment, 12)]) as again:
        await again.send(output=[output(assignment, 13)])
        assert (await violation(again))[0] == "output.offset"


async def test_more_output_than_the_window_is_a_violation(server: RunningServer) -> None:
    """Held for a reader that does not come, so that nothing is acknowledged beyond its slack."""
    async with server.agent() as agent:
        window = agent.welcome.limits.max_unacknowledged_output_bytes
        slack = quick_settings("valkey://unused").output_kept_bytes - window
        request = queue_request()
        request.hold_output = True
        reply = await server.commands.QueueCommand(request)
        assignment = await agent.next_assignment(reply.command.command_id)
        await agent.start(assignment)
        sent = 0
        while sent < slack + window:
            await agent.print(assignment, PIECE, sent)
            sent += len(PIECE)
        assert agent.output_acks(assignment.command.command_id)[-1] == slack
        await agent.send(output=[output(assignment, sent)])
        field, text = await violation(agent)
        assert field == "output"
        assert f"{window:,}" in text


@pytest.mark.parametrize("bytes_produced", [-1, LIMIT + 1])
async def test_a_held_command_cannot_have_produced_more_than_can_be_counted(
    server: RunningServer, agent: WireAgent, bytes_produced: int
) -> None:
    (assignment,) = agent.assignments
    with pytest.raises(AssertionError, match=r"hello\.running\.output_offset"):
        async with server.agent(running=[running(assignment, bytes_produced)]):
            pass


async def test_results_are_acknowledged_under_their_lease(server: RunningServer, agent: WireAgent) -> None:
    (assignment,) = agent.assignments
    (stale,) = await agent.report(result(assignment, lease_id="made up"))
    assert (stale.verdict, stale.reason.code, stale.lease_id) == (
        pb.RESULT_VERDICT_REJECTED,
        "stale_lease",
        "made up",
    )
    (stored,) = await agent.finish(assignment)
    assert (stored.verdict, stored.lease_id) == (pb.RESULT_VERDICT_STORED, assignment.lease_id)
