"""Cancelling: what waits ends at once, what runs ends when its agent says that it stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

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
    TIMEOUT,
    RunningServer,
    running_server,
)
from tests.support.serving_agent import background
from tests.support.wire_agent import WireAgent, running


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


QUICK = {"heartbeat_interval": 0.1, "start_within": 0.6, "ack_deadline": 0.8, "offline_after": 60}
STAGE = command_pb2.CancelStage.Name


def report(assignment: pb.Assignment, finding: pb.CancelFinding.ValueType, **fields: Any) -> pb.CancelReport:
    command_id, lease_id = assignment.command.command_id, assignment.lease_id
    return pb.CancelReport(command_id=command_id, lease_id=lease_id, finding=finding, **fields)


GivenUp = AsyncIterator[tuple[RunningServer, WireAgent, str]]


@asynccontextmanager
async def given_up(valkey_url: str, attempts: int, **command: Any) -> GivenUp:
    """A server, an agent, and a command in the queue of which the agent has acknowledged no attempt: it may run it."""
    async with running_server(valkey_url, **QUICK) as server, server.agent(capacity=1) as agent:
        command_id = await server.queue(**command)
        async with background(agent.beat(0.02, credit=1)):
            for attempt in range(1, attempts + 1):
                await agent.next_assignment(command_id, attempt)
        await agent.heartbeat(credit=0)
        await server.until_state(command_id, lambda state: state.status != ASSIGNED)
        yield server, agent, command_id


@pytest.mark.parametrize("attempts", [1, 2])
async def test_a_queued_command_that_its_agent_may_run_is_cancelled_once_no_attempt_runs(
    valkey_url: str, attempts: int
) -> None:
    async with given_up(valkey_url, attempts) as (server, agent, command_id):
        state = await cancel(server, command_id, "enough")
        assert (state.status, state.reason.code) == (ASSIGNED, "unconfirmed")
        assert STAGE(state.cancel_stage) == "CANCEL_STAGE_UNCONFIRMED"
        await agent.until(lambda: len(agent.cancels) >= attempts)
        assert [(told.command_id, told.lease_id, told.reason) for told in agent.cancels] == [
            (command_id, assignment.lease_id, "enough") for assignment in agent.assignments
        ]
        *others, last = agent.assignments
        await agent.send(cancel_reports=[report(one, pb.CANCEL_FINDING_UNKNOWN) for one in others])
        await agent.heartbeat(credit=0)
        assert (await server.state(command_id)).status == ASSIGNED, "another attempt may run"
        await agent.send(cancel_reports=[report(last, pb.CANCEL_FINDING_UNKNOWN)])
        kept = await server.result(command_id)
        assert (kept.status, kept.reason.code, kept.reason.message) == (CANCELLED, "cancelled", "enough")
        assert STAGE((await server.state(command_id)).cancel_stage) == "CANCEL_STAGE_STOPPED"


@pytest.mark.parametrize("attempts", [1, 2])
async def test_a_queued_command_that_its_agent_runs_is_stopped(valkey_url: str, attempts: int) -> None:
    async with given_up(valkey_url, attempts) as (server, agent, command_id):
        await cancel(server, command_id, "enough")
        await agent.until(lambda: agent.cancels)
        await agent.send(cancel_reports=[report(agent.assignments[0], pb.CANCEL_FINDING_STOPPING)])
        state = await server.until_state(
            command_id, lambda state: state.cancel_stage == command_pb2.CANCEL_STAGE_STOPPING
        )
        assert (state.status, state.reason.code) == (ASSIGNED, "cancel_requested")
        await agent.finish(agent.assignments[0], status=CANCELLED)
        assert (await server.result(command_id)).status == CANCELLED


async def test_a_queued_command_that_its_agent_may_run_does_not_expire(valkey_url: str) -> None:
    async with given_up(valkey_url, 1, queue_ttl=1) as (server, agent, command_id):
        state = await server.until_state(command_id, lambda state: state.reason.code == "unconfirmed")
        assert (state.status, state.cancel_stage) == (ASSIGNED, command_pb2.CANCEL_STAGE_UNSPECIFIED)
        await agent.start(agent.assignments[0])
        state = await server.until_state(command_id, lambda state: not state.reason.code)
        assert state.receipts.HasField("acknowledge_time")
        await agent.finish(agent.assignments[0])
        assert (await server.result(command_id)).status == COMPLETED


async def test_a_cancel_in_the_dark_is_unconfirmed_until_its_agent_returns(valkey_url: str) -> None:
    """`Received` was lost and the link went dark, while the program ran on."""
    async with running_server(valkey_url, **QUICK) as server:
        async with server.agent() as agent:
            command_id = await server.queue()
            assignment = await agent.next_assignment(command_id)
            await cancel(server, command_id, "enough")
            await server.until_state(command_id, lambda state: state.reason.code == "unconfirmed")
        async with server.agent(running=[running(assignment)]) as agent:
            (told,) = await agent.until(lambda: agent.cancels)
            assert (told.lease_id, told.reason) == (assignment.lease_id, "enough")
            await server.until_state(command_id, lambda state: state.cancel_stage == command_pb2.CANCEL_STAGE_DELIVERED)
            await agent.finish(assignment, status=CANCELLED)
            assert (await server.result(command_id)).status == CANCELLED


async def test_a_cancel_in_the_dark_is_true_once_its_agent_returns_without_it(valkey_url: str) -> None:
    async with running_server(valkey_url, **QUICK) as server:
        async with server.agent() as agent:
            command_id = await server.queue()
            await agent.next_assignment(command_id)
            await cancel(server, command_id, "enough")
            await server.until_state(command_id, lambda state: state.reason.code == "unconfirmed")
        async with server.agent():
            kept = await server.result(command_id)
            assert (kept.status, kept.reason.message) == (CANCELLED, "enough")


async def test_an_agent_without_its_record_cannot_tell_whether_it_ran(valkey_url: str) -> None:
    async with running_server(valkey_url, **QUICK) as server:
        async with server.agent() as agent:
            command_id = await server.queue()
            await agent.next_assignment(command_id)
            await cancel(server, command_id, "enough")
            await agent.leave()
        async with server.agent(instance_id="another"):
            kept = await server.result(command_id)
        assert kept.status == CANCELLED, "it left with a word"
        async with server.agent(instance_id="another") as agent:
            command_id = await server.queue()
            await agent.next_assignment(command_id)
            await cancel(server, command_id, "enough")
            await agent.vanish()
        async with server.agent(instance_id="a third"):
            kept = await server.result(command_id)
            assert (kept.status, kept.reason.code) == (FAILED, "outcome_unknown")


async def test_the_stages_of_a_cancel(server: RunningServer) -> None:
    async with server.agent() as agent:
        command_id = await server.queue()
        assignment = await agent.next_assignment(command_id)
        await agent.start(assignment)
        stages = []

        async def until(stage: str) -> command_pb2.CommandState:
            stages.append(stage)
            return await server.until_state(command_id, lambda state: STAGE(state.cancel_stage).endswith(stages[-1]))

        assert STAGE((await server.state(command_id)).cancel_stage).endswith("UNSPECIFIED")
        assert STAGE((await cancel(server, command_id)).cancel_stage).endswith("REQUESTED")
        await until("DELIVERED")
        await agent.send(cancel_reports=[report(assignment, pb.CANCEL_FINDING_STOPPING)])
        await until("STOPPING")
        survivors = [pb.SurvivingProcess(pid=12, name="sleep 9"), pb.SurvivingProcess(pid=34, name="bad\x1b[2Jname")]
        stuck = report(assignment, pb.CANCEL_FINDING_COULD_NOT_STOP, survivors=survivors)
        await agent.send(cancel_reports=[stuck])
        state = await until("COULD_NOT_STOP")
        assert (state.status, state.reason.code) == (ASSIGNED, "could_not_stop")
        assert state.reason.message == "still running: 12 (sleep 9), 34 (bad\\x1b[2Jname)"
        await agent.send(cancel_reports=[report(assignment, pb.CANCEL_FINDING_STOPPING)])
        await agent.heartbeat()
        assert STAGE((await server.state(command_id)).cancel_stage).endswith("COULD_NOT_STOP"), "no way back"
        await agent.finish(assignment, status=CANCELLED)
        await server.result(command_id)
        assert STAGE((await server.state(command_id)).cancel_stage).endswith("STOPPED")


@pytest.mark.parametrize("status", [CANCELLED, TIMEOUT])
async def test_a_command_whose_processes_still_run_was_not_stopped(
    server: RunningServer, status: command_pb2.CommandStatus.ValueType
) -> None:
    async with server.agent() as agent:
        command_id = await server.queue()
        assignment = await agent.next_assignment(command_id)
        await agent.start(assignment)
        await cancel(server, command_id)
        await agent.finish(assignment, status=status, survivors=[pb.SurvivingProcess(pid=12, name="sleep")])
        kept = await server.result(command_id)
        assert (kept.status, kept.reason.code) == (FAILED, "could_not_stop")
        assert kept.reason.message == "still running: 12 (sleep)"
        assert STAGE((await server.state(command_id)).cancel_stage).endswith("COULD_NOT_STOP")


async def test_a_cancel_while_the_agent_attaches_reaches_it_at_once(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store has opened the session, which the server does not know yet."""
    async with server.agent() as agent:
        assignment = await agent.next_assignment(await server.queue())
        await agent.start(assignment)
    command_id = assignment.command.command_id
    attach = ValkeySessionStore.attach

    async def attach_and_cancel(store: ValkeySessionStore, hello: AgentHello, epoch: int | None = None) -> Attached:
        attached = await attach(store, hello, epoch)
        await cancel(server, command_id, "enough")
        return attached

    monkeypatch.setattr(ValkeySessionStore, "attach", attach_and_cancel)
    async with server.agent(running=[running(assignment)]) as agent, asyncio.timeout(RECONCILE_INTERVAL_SECONDS / 3):
        (told,) = await agent.until(lambda: agent.cancels)
        assert (told.command_id, told.reason, told.lease_id) == (command_id, "enough", assignment.lease_id)
