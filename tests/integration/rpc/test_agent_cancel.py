"""Cancelling: what waits ends at once, what runs ends when its agent says that it stopped."""

from __future__ import annotations

import asyncio

import pytest

from distributor.dispatch.reconciler import RECONCILE_INTERVAL_SECONDS
from distributor.model.agent import AgentHello, Attached
from distributor.store.session_store import ValkeySessionStore
from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1 import command_pb2
from distributor.v1.command_service_pb2 import CancelCommandRequest
from tests.support.running_server import (
    ASSIGNED,
    CANCELLED,
    COMPLETED,
    FAILED,
    RunningServer,
    running_server,
)
from tests.support.wire_agent import running


async def cancel(server: RunningServer, command_id: str, reason: str = "") -> command_pb2.CommandState:
    response = await server.commands.CancelCommand(CancelCommandRequest(command_id=command_id, reason=reason))
    state: command_pb2.CommandState = response.command.state
    assert (response.command.command_id, response.command.type) == (command_id, "PRINT")
    return state


async def test_a_queued_command_is_cancelled_at_once(server: RunningServer) -> None:
    command_id = await server.queue("away")
    state = await cancel(server, command_id, "no longer wanted")
    assert (state.status, state.reason.code) == (CANCELLED, "cancelled")
    assert state.HasField("cancel_time")
    kept = await server.result(command_id)
    assert (kept.status, kept.reason.message) == (CANCELLED, "no longer wanted")
    async with server.agent("away") as agent:
        await agent.next_assignment(await server.queue("away"))
        assert command_id not in agent.command_ids


async def test_a_running_command_is_cancelled_once_its_agent_says_so(server: RunningServer) -> None:
    async with server.agent() as agent:
        command_id = await server.queue()
        assignment = await agent.next_assignment(command_id)
        await agent.start(assignment)
        state = await cancel(server, command_id, "enough")
        assert state.status == ASSIGNED
        assert state.HasField("cancel_time")
        (told,) = await agent.until(lambda: agent.cancels)
        assert (told.command_id, told.reason) == (command_id, "enough")
        assert told.lease_id == assignment.lease_id
        stopping = pb.CancelReport(
            command_id=command_id, finding=pb.CANCEL_FINDING_STOPPING, lease_id=assignment.lease_id
        )
        await agent.send(cancel_reports=[stopping])
        await agent.heartbeat()
        assert (await server.state(command_id)).status == ASSIGNED
        reason = command_pb2.Reason(code="cancelled", message="stopped")
        await agent.finish(assignment, status=CANCELLED, reason=reason)
        kept = await server.result(command_id)
        assert (kept.status, kept.reason.message) == (CANCELLED, "stopped")


async def test_a_command_that_ends_before_the_cancel_arrives_keeps_its_end(server: RunningServer) -> None:
    async with server.agent() as agent:
        command_id = await server.queue()
        assignment = await agent.next_assignment(command_id)
        await cancel(server, command_id)
        await agent.finish(assignment)
        assert (await server.result(command_id)).status == COMPLETED


async def test_a_command_that_the_agent_does_not_have_is_cancelled(server: RunningServer) -> None:
    async with server.agent(capacity=1) as agent:
        command_id = await server.queue()
        await agent.next_assignment(command_id)
        await cancel(server, command_id)
        (told,) = await agent.until(lambda: agent.cancels)
        unknown = pb.CancelReport(command_id=command_id, finding=pb.CANCEL_FINDING_UNKNOWN, lease_id=told.lease_id)
        await agent.send(cancel_reports=[unknown])
        kept = await server.result(command_id)
        assert (kept.status, kept.reason.code) == (CANCELLED, "cancelled")
        await agent.next_assignment(await server.queue())


@pytest.mark.parametrize("lease_id", ["", "another"])
async def test_a_cancel_of_another_attempt_that_met_nothing_ends_nothing(server: RunningServer, lease_id: str) -> None:
    async with server.agent() as agent:
        command_id = await server.queue()
        assignment = await agent.next_assignment(command_id)
        unknown = pb.CancelReport(command_id=command_id, finding=pb.CANCEL_FINDING_UNKNOWN, lease_id=lease_id)
        await agent.send(cancel_reports=[unknown])
        await agent.finish(assignment)
        assert (await server.result(command_id)).status == COMPLETED


@pytest.mark.parametrize("code", [pb.REFUSAL_CODE_BUSY, pb.REFUSAL_CODE_STALE])
async def test_a_cancelled_command_that_the_agent_refuses_is_not_given_out_again(
    server: RunningServer, code: pb.RefusalCode.ValueType
) -> None:
    async with server.agent() as agent:
        command_id = await server.queue()
        assignment = await agent.next_assignment(command_id)
        await cancel(server, command_id)
        await agent.refuse(assignment, code)
        assert (await server.result(command_id)).status == CANCELLED
        assert len(agent.assignments) == 1


async def test_a_cancelled_command_is_not_run_again_after_a_transient_failure(server: RunningServer) -> None:
    async with server.agent() as agent:
        command_id = await server.queue(max_runs=5)
        assignment = await agent.next_assignment(command_id)
        await cancel(server, command_id)
        await agent.finish(assignment, status=FAILED, transient=True)
        assert (await server.result(command_id)).status == FAILED


async def test_cancelling_what_has_ended_changes_nothing(server: RunningServer) -> None:
    async with server.agent() as agent:
        command_id = await server.queue()
        await agent.finish(await agent.next_assignment(command_id))
        before = await server.state(command_id)
        # Only a get counts the output.
        before.ClearField("output_bytes")
        assert await cancel(server, command_id) == before
        await agent.heartbeat()
        assert agent.cancels == []


async def test_a_cancel_while_the_agent_is_away_is_told_when_it_comes_back(server: RunningServer) -> None:
    async with server.agent() as agent:
        command_id = await server.queue()
        assignment = await agent.next_assignment(command_id)
        await agent.start(assignment)
        await server.until_state(command_id, lambda state: state.receipts.HasField("start_time"))
    await cancel(server, command_id)
    async with server.agent(running=[running(assignment)]) as agent:
        assert (await agent.until(lambda: agent.cancels))[0].command_id == command_id
        await agent.finish(assignment, status=CANCELLED)
        assert (await server.result(command_id)).status == CANCELLED


@pytest.mark.parametrize("attempts", [1, 2])
@pytest.mark.parametrize("end", ["cancelled", "expired"])
async def test_attempts_that_were_given_up_are_cancelled_once_their_command_ends_in_the_queue(
    valkey_url: str, end: str, attempts: int
) -> None:
    """The agent has the command; only its acknowledgement was lost."""
    quick = {"heartbeat_interval": 0.1, "start_within": 0.2, "ack_deadline": 0.3, "offline_after": 60}
    async with running_server(valkey_url, **quick) as server, server.agent(capacity=1) as agent:
        command_id = await server.queue(queue_ttl=1 if end == "expired" else 60)
        for attempt in range(1, attempts + 1):
            await agent.next_assignment(command_id, attempt)
        await agent.heartbeat(credit=0)
        await server.until_state(command_id, lambda state: state.status != ASSIGNED)
        if end == "cancelled":
            assert agent.cancels == []
            await cancel(server, command_id, "enough")
        kept = await server.result(command_id)
        assert kept.reason.code == end
        await agent.until(lambda: len(agent.cancels) >= len(agent.assignments))
        assert [(told.command_id, told.lease_id, told.reason) for told in agent.cancels] == [
            (command_id, assignment.lease_id, kept.reason.message) for assignment in agent.assignments
        ]
        (ack,) = await agent.finish(agent.assignments[0], status=CANCELLED)
        assert ack.verdict == pb.RESULT_VERDICT_LATE


async def test_a_cancel_while_the_agent_attaches_reaches_it_at_once(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store has opened the session, which the server does not know yet."""
    async with server.agent() as agent:
        assignment = await agent.next_assignment(await server.queue())
        await agent.start(assignment)
    command_id = assignment.command.command_id
    attach = ValkeySessionStore.attach

    async def attach_and_cancel(store: ValkeySessionStore, hello: AgentHello) -> Attached:
        attached = await attach(store, hello)
        await cancel(server, command_id, "enough")
        return attached

    monkeypatch.setattr(ValkeySessionStore, "attach", attach_and_cancel)
    async with server.agent(running=[running(assignment)]) as agent, asyncio.timeout(RECONCILE_INTERVAL_SECONDS / 3):
        (told,) = await agent.until(lambda: agent.cancels)
        assert (told.command_id, told.reason, told.lease_id) == (command_id, "enough", assignment.lease_id)
