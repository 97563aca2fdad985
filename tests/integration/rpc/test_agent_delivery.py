"""Commands on their way to an agent: how many, in which order, and what becomes of what it says about them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from contextlib import AsyncExitStack

import pytest
from valkey.asyncio import Valkey

from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1 import command_pb2, command_service_pb2
from tests.support.running_server import (
    ASSIGNED,
    COMPLETED,
    FAILED,
    QUEUED,
    TIMEOUT,
    RunningServer,
    queue_request,
    running_server,
)
from tests.support.serving_agent import background
from tests.support.waiting import PATIENCE_SECONDS, until
from tests.support.wire_agent import result, running


async def test_a_command_arrives_as_it_was_queued_with_the_defaults_filled_in(server: RunningServer) -> None:
    async with server.agent() as agent:
        command_id = await server.queue(params={"reason": "test", "nested": {"list": [1, None, True]}})
        assignment = await agent.next_assignment(command_id)
        command = assignment.command
        assert (command.agent_id, command.type, command.priority) == ("agent123", "PRINT", 50)
        assert (command.time_limit.seconds, command.queue_ttl.seconds, command.max_runs) == (300, 86_400, 1)
        assert dict(command.params) == {"reason": "test", "nested": {"list": [1, None, True]}}
        assert assignment.attempt == 1
        assert len(assignment.lease_id) == 16
        assert agent.messages[-1].commands.after_heartbeat == 0


async def test_commands_come_up_to_20_in_a_message_by_priority_then_by_arrival(server: RunningServer) -> None:
    low = await server.queue_many(10, priority=25)
    normal = await server.queue_many(10)
    high = await server.queue_many(10, priority=75)
    async with server.agent(capacity=100) as agent:
        await agent.assigned(30)
        assert agent.command_ids == high + normal + low
        sizes = [len(message.commands.assignments) for message in agent.messages if message.HasField("commands")]
        assert sizes == [20, 10]


async def test_never_more_than_the_agent_has_room_for(server: RunningServer) -> None:
    ids = await server.queue_many(30)
    done: list[pb.Assignment] = []
    async with server.agent(capacity=3) as agent:
        while len(done) < len(ids):
            waiting = (await agent.assigned(min(len(done) + 3, len(ids))))[len(done) :]
            assert len(waiting) <= 3
            await agent.start(*waiting)
            # An answered heartbeat proves that nothing more is on the way.
            await agent.heartbeat(credit=0, running=3)
            assert len(agent.assignments) == len(done) + len(waiting)
            (first, *_) = waiting
            await agent.finish(first)
            done.append(first)
        assert agent.command_ids == ids


@pytest.mark.parametrize(("capacity", "credit"), [(10, 1), (1, 0)])
async def test_never_more_than_the_agent_has_credit_for(server: RunningServer, capacity: int, credit: int) -> None:
    """The rest of its capacity is taken up by what is no longer ours."""
    async with server.agent(capacity=capacity) as agent:
        await agent.heartbeat(credit=credit, running=capacity - credit)
        ids = await server.queue_many(10)
        await agent.assigned(credit)
        # An answered heartbeat proves that nothing more is on the way.
        await agent.start(*agent.assignments)
        await agent.heartbeat(credit=0, running=capacity)
        assert agent.command_ids == ids[:credit]
        await agent.heartbeat(credit=capacity - credit, running=credit)
        await agent.assigned(min(10, capacity))


async def test_what_an_agent_comes_back_with_and_must_stop_takes_up_its_room(server: RunningServer) -> None:
    async with server.agent() as other:
        foreign = await other.next_assignment(await server.queue())
        async with server.agent("agent456", capacity=1, running=[running(foreign)]) as agent:
            command_id = await server.queue("agent456")
            await agent.heartbeat(credit=0, running=1)
            assert agent.assignments == []
            await agent.heartbeat(credit=1, running=0)
            await agent.next_assignment(command_id)


async def test_no_credit_although_there_is_room_means_nothing_more(server: RunningServer) -> None:
    async with server.agent(capacity=5) as agent:
        await agent.heartbeat(credit=0, running=0)
        command_id = await server.queue()
        await agent.heartbeat(credit=0, running=0)
        assert agent.assignments == []
        assert (await server.state(command_id)).status == QUEUED
        # The heartbeat is what makes room, so it is what brings the command: the poll is a minute away.
        await agent.heartbeat(credit=5, running=0)
        await agent.next_assignment(command_id)


async def test_commands_name_the_heartbeat_that_was_answered_before_their_claim(server: RunningServer) -> None:
    async with server.agent() as agent:
        await agent.heartbeat()
        await agent.heartbeat()
        await agent.next_assignment(await server.queue())
        assert agent.messages[-1].commands.after_heartbeat == 2


async def test_each_stage_has_its_receipt(server: RunningServer) -> None:
    async with server.agent() as agent:
        command_id = await server.queue()
        assignment = await agent.next_assignment(command_id)
        await agent.send(received=[pb.Received(command_id=command_id, lease_id=assignment.lease_id)])
        await server.until_state(command_id, lambda state: state.receipts.HasField("acknowledge_time"))
        await agent.send(started=[pb.Started(command_id=command_id, lease_id=assignment.lease_id)])
        await server.until_state(command_id, lambda state: state.receipts.HasField("start_time"))
        await agent.finish(assignment, exit_code=3)
        state = await server.state(command_id)
        receipts = [
            getattr(state.receipts, f"{stage}_time").ToMilliseconds()
            for stage in ("queue", "assign", "send", "acknowledge", "start", "finish")
        ]
        assert all(receipts)
        assert receipts == sorted(receipts)
        assert (await server.result(command_id)).exit_code == 3


async def test_results_are_stored_before_they_are_acknowledged(server: RunningServer) -> None:
    async with server.agent(capacity=20) as agent:
        ids = await server.queue_many(20)
        assignments = await agent.assigned(20)
        acks = await agent.finish(*assignments)
        assert [(ack.command_id, ack.verdict) for ack in acks] == [(one, pb.RESULT_VERDICT_STORED) for one in ids]
        for command_id in ids:
            assert (await server.state(command_id)).status == COMPLETED


async def test_output_is_stored_before_it_is_acknowledged_and_never_twice(server: RunningServer) -> None:
    async with server.agent() as agent:
        command_id = await server.queue()
        assignment = await agent.next_assignment(command_id)
        await agent.start(assignment)
        assert await agent.print(assignment, b"first ", 0) == 6
        assert (await server.state(command_id)).output_bytes == 6
        assert await agent.print(assignment, b"first second", 0) == 12
        assert await agent.print(assignment, b"\xff\xfe", 12, stderr=True) == 14
        await agent.finish(assignment, output_bytes=14)
        chunks = [update.output async for update in watch(server, command_id) if update.HasField("output")]
        assert b"".join(chunk.data for chunk in chunks) == b"first second\xff\xfe"
        assert [chunk.offset for chunk in chunks] == [0, 6, 12]
        assert chunks[-1].stream == command_pb2.OUTPUT_STREAM_STDERR


def watch(server: RunningServer, command_id: str) -> AsyncIterable[command_service_pb2.WatchCommandResponse]:
    return server.commands.WatchCommand(
        command_service_pb2.WatchCommandRequest(command_id=command_id), timeout=PATIENCE_SECONDS
    )


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        (pb.REFUSAL_CODE_UNSUPPORTED, FAILED, "unsupported"),
        (pb.REFUSAL_CODE_DUPLICATE, FAILED, "duplicate"),
        (pb.REFUSAL_CODE_EXPIRED, TIMEOUT, "expired"),
    ],
)
async def test_a_refusal_that_ends_the_command(
    server: RunningServer, code: pb.RefusalCode.ValueType, status: int, reason: str
) -> None:
    async with server.agent() as agent:
        command_id = await server.queue()
        await agent.refuse(await agent.next_assignment(command_id), code)
        kept = await server.result(command_id)
        assert (kept.status, kept.reason.code) == (status, reason)
        assert not (await server.state(command_id)).receipts.HasField("start_time")


async def test_a_refusal_may_have_a_finer_reason(server: RunningServer) -> None:
    async with server.agent() as agent:
        command_id = await server.queue(command_type="EXEC")
        assignment = await agent.next_assignment(command_id)
        reason = command_pb2.Reason(code="exec_not_allowed", message="not here")
        await agent.refuse(assignment, pb.REFUSAL_CODE_UNSUPPORTED, reason)
        kept = await server.result(command_id)
        assert (kept.reason.code, kept.reason.message) == ("exec_not_allowed", "not here")


@pytest.mark.parametrize("code", [pb.REFUSAL_CODE_BUSY, pb.REFUSAL_CODE_STALE])
async def test_an_agent_that_is_busy_or_finds_a_command_stale_takes_it_later(
    server: RunningServer, code: pb.RefusalCode.ValueType
) -> None:
    async with server.agent() as agent:
        command_id = await server.queue()
        # As often as it refuses: this is no attempt of which there are only so many.
        for attempt in (1, 2, 3, 4):
            await agent.refuse(await agent.next_assignment(command_id, attempt), code)
            await agent.heartbeat()
        await agent.finish(await agent.next_assignment(command_id, attempt=5))
        kept = await server.result(command_id)
        assert (kept.status, kept.attempt) == (COMPLETED, 5)


async def test_nothing_follows_a_stale_refusal_before_a_heartbeat(server: RunningServer) -> None:
    async with server.agent() as agent:
        command_id = await server.queue()
        await agent.refuse(await agent.next_assignment(command_id), pb.REFUSAL_CODE_STALE)
        await server.until_state(command_id, lambda state: state.reason.code == "stale")
        other = await server.queue()
        # Were it claimed, it would be in the answer's message or in one before.
        await agent.heartbeat()
        first = agent.messages[[message.HasField("heartbeat_reply") for message in agent.messages].index(True)]
        assert agent.command_ids[:1] == [command_id]
        assert not first.commands.assignments or first.commands.after_heartbeat == 1
        await agent.next_assignment(other)


async def test_what_crosses_with_a_goodbye_is_given_out_again_and_was_no_failure(server: RunningServer) -> None:
    command_id = await server.queue()
    # As often as it crosses.
    for attempt in (1, 2, 3, 4):
        async with server.agent() as agent:
            await agent.next_assignment(command_id, attempt)
            await agent.leave()
            state = await server.state(command_id)
            assert (state.status, state.reason.code) == (QUEUED, "not_delivered")
    async with server.agent() as agent:
        await agent.finish(await agent.next_assignment(command_id, attempt=5))
        assert (await server.result(command_id)).status == COMPLETED


async def test_a_command_that_valkey_has_damaged_fails_and_holds_nothing_up(server: RunningServer) -> None:
    damaged, whole = await server.queue(), await server.queue()
    async with Valkey.from_url(server.settings.valkey_url) as client:
        await client.set(f"command:queue:{damaged}", b"\xff\xff\xff")
    async with server.agent() as agent:
        await agent.finish(await agent.next_assignment(whole))
        assert agent.command_ids == [whole]
        await agent.heartbeat()
        kept = await server.result(damaged)
        assert (kept.status, kept.reason.code) == (FAILED, "unreadable_command")


QUICK = {"heartbeat_interval": 0.05, "start_within": 0.6, "ack_deadline": 0.8, "offline_after": 60}
"""Attempts are given up soon, and a slow machine still answers heartbeats within `start_within`."""


async def test_a_command_that_is_not_acknowledged_is_given_out_again_and_then_in_doubt(valkey_url: str) -> None:
    # With room for one only: what was not acknowledged must not take up the room of what comes next.
    async with running_server(valkey_url, **QUICK) as server, server.agent(capacity=1) as agent:
        command_id = await server.queue()
        async with background(agent.beat(0.02, credit=1)):
            for attempt in (1, 2, 3):
                await agent.next_assignment(command_id, attempt)
            state = await server.until_state(command_id, lambda state: state.reason.code == "unconfirmed")
            assert (state.status, state.attempt) == (ASSIGNED, 3)
            following = await server.queue()
            await agent.next_assignment(following)
        (ack,) = await agent.report(result(agent.assignments[0]))
        assert ack.verdict == pb.RESULT_VERDICT_STORED
        assert (await server.result(command_id)).status == COMPLETED


async def test_a_command_in_doubt_of_which_nothing_is_heard_times_out(valkey_url: str) -> None:
    settings = {"delivery_attempts": 1, "stop_grace": 0.05}
    async with running_server(valkey_url, **QUICK, **settings) as server, server.agent() as agent:
        async with background(agent.beat(0.02, credit=5)):
            command_id = await server.queue(time_limit=0.1)
            assignment = await agent.next_assignment(command_id)
            kept = await server.result(command_id)
        assert (kept.status, kept.reason.code) == (TIMEOUT, "agent_lost")
        (ack,) = await agent.report(result(assignment))
        assert ack.verdict == pb.RESULT_VERDICT_LATE


async def test_output_of_an_attempt_whose_acknowledgement_was_lost_is_kept(valkey_url: str) -> None:
    async with running_server(valkey_url, **QUICK) as server, server.agent(capacity=1) as agent:
        command_id = await server.queue()
        async with background(agent.beat(0.02, credit=1)):
            await agent.next_assignment(command_id, 2)
        first = agent.assignments[0]
        assert await agent.print(first, b"hello\n", 0) == 6
        (ack,) = await agent.report(result(first, output_bytes=6))
        assert ack.verdict == pb.RESULT_VERDICT_STORED
        request = command_service_pb2.WatchCommandRequest(command_id=command_id)
        updates = [update async for update in server.commands.WatchCommand(request)]
        assert b"".join(update.output.data for update in updates) == b"hello\n"
        assert not any(update.HasField("gap") for update in updates)


async def test_the_result_of_a_given_up_attempt_counts_when_its_reports_come_at_last(valkey_url: str) -> None:
    """A hole from the agent to the server: it ran the command at once, and nothing it said arrived in time."""
    for attempts in (1, 2, 3):
        async with running_server(valkey_url, **QUICK, delivery_attempts=3) as server, server.agent() as agent:
            command_id = await server.queue()
            async with background(agent.beat(0.02, credit=5)):
                given = [await agent.next_assignment(command_id, attempt) for attempt in range(1, attempts + 1)]
                if attempts < 3:
                    await agent.next_assignment(command_id, attempts + 1)
                else:
                    await server.until_state(command_id, lambda state: state.reason.code == "unconfirmed")
            for assignment in given:
                await agent.start(assignment)
                await agent.send(results=[result(assignment, exit_code=0)])
            kept = await server.result(command_id)
            assert (kept.status, kept.exit_code, kept.reason.code) == (COMPLETED, 0, "")


async def test_a_transient_failure_is_run_again_as_often_as_asked(server: RunningServer) -> None:
    async with server.agent() as agent:
        command_id = await server.queue(max_runs=3)
        for attempt in (1, 2):
            assignment = await agent.next_assignment(command_id, attempt)
            await agent.start(assignment)
            (ack,) = await agent.finish(assignment, status=FAILED, transient=True)
            assert ack.verdict == pb.RESULT_VERDICT_STORED
        last = await agent.next_assignment(command_id, attempt=3)
        await agent.finish(last, status=FAILED, transient=True, reason=command_pb2.Reason(code="flaky"))
        kept = await server.result(command_id)
        assert (kept.status, kept.attempt, kept.reason.code) == (FAILED, 3, "flaky")


@pytest.mark.parametrize("transient", [True, False])
async def test_a_failure_is_final_unless_another_run_was_asked_for_and_is_worth_it(
    server: RunningServer, transient: bool
) -> None:
    async with server.agent() as agent:
        command_id = await server.queue(max_runs=1 if transient else 5)
        assignment = await agent.next_assignment(command_id)
        await agent.finish(assignment, status=FAILED, transient=transient)
        kept = await server.result(command_id)
        assert (kept.status, kept.attempt) == (FAILED, 1)


async def test_output_of_a_second_run_follows_that_of_the_first(server: RunningServer) -> None:
    async with server.agent() as agent:
        command_id = await server.queue(max_runs=2)
        first = await agent.next_assignment(command_id)
        await agent.print(first, b"one ", 0)
        await agent.finish(first, status=FAILED, transient=True, output_bytes=4)
        second = await agent.next_assignment(command_id, attempt=2)
        assert await agent.print(second, b"two", 0) == 3
        await agent.finish(second, output_bytes=3)
        chunks = [update.output async for update in watch(server, command_id) if update.HasField("output")]
        assert [(chunk.offset, chunk.data) for chunk in chunks] == [(0, b"one "), (4, b"two")]


async def test_a_command_outlives_its_time_limit_only_by_the_grace(valkey_url: str) -> None:
    settings = {"heartbeat_interval": 0.1, "start_within": 15.0, "stop_grace": 0.0, "offline_after": 60}
    async with running_server(valkey_url, **settings) as server, server.agent(capacity=1) as agent:
        command_id = await server.queue(time_limit=0.05)
        assignment = await agent.next_assignment(command_id)
        await agent.start(assignment)
        watched = [update async for update in watch(server, command_id)]
        assert (watched[-1].result.status, watched[-1].result.reason.code) == (TIMEOUT, "time_limit")
        assert watched[-2].command.state.status == TIMEOUT
        # The agent is told to stop it, and has room again once it says that it did.
        await agent.until(lambda: [cancel.command_id for cancel in agent.cancels] == [command_id])
        following = await server.queue()
        assert agent.command_ids == [command_id]
        (ack,) = await agent.finish(assignment)
        assert ack.verdict == pb.RESULT_VERDICT_LATE
        await agent.next_assignment(following)
        assert (await server.result(command_id)).status == TIMEOUT


async def test_an_extended_command_outlives_the_limit_that_it_was_queued_with(valkey_url: str) -> None:
    settings = {"heartbeat_interval": 0.1, "start_within": 15.0, "stop_grace": 0.0, "offline_after": 60}
    async with running_server(valkey_url, **settings) as server, server.agent(capacity=2) as agent:
        extended, other = await server.queue_many(2, time_limit=0.3)
        first, second = await agent.assigned(2)
        await agent.start(first, second)
        await agent.send(extensions=[extension(first, 60.0), extension(second, 60.0, lease_id="another")])
        assert (await server.result(other)).status == TIMEOUT
        await agent.until(lambda: [cancel.command_id for cancel in agent.cancels] == [other])
        assert (await server.get(extended)).command.time_limit.seconds == 60
        await agent.send(extensions=[extension(first, 0.001)])
        (ack,) = await agent.finish(first)
        assert ack.verdict == pb.RESULT_VERDICT_STORED
        assert (await server.result(extended)).status == COMPLETED


def extension(assignment: pb.Assignment, seconds: float, lease_id: str = "") -> pb.Extension:
    extension = pb.Extension(command_id=assignment.command.command_id, lease_id=lease_id or assignment.lease_id)
    extension.time_limit.FromMilliseconds(round(seconds * 1000))
    return extension


async def test_a_command_that_waits_for_too_long_times_out(server: RunningServer) -> None:
    command_id = await server.queue("away", queue_ttl=0.05)
    watched = [update async for update in watch(server, command_id)]
    # A watch that opens late does not see it wait.
    assert [update.command.state.status for update in watched[:-1]] in ([QUEUED, TIMEOUT], [TIMEOUT])
    kept = watched[-1].result
    assert (kept.status, kept.reason.code, kept.attempt) == (TIMEOUT, "expired", 0)


async def test_agents_are_served_side_by_side(server: RunningServer) -> None:
    async with server.agent("a", capacity=20) as a, server.agent("b", capacity=20) as b:
        requests = [queue_request(agent_id) for _ in range(15) for agent_id in ("a", "b")]
        await server.commands.QueueCommands(command_service_pb2.QueueCommandsRequest(requests=requests))
        assert {one.command.agent_id for one in await a.assigned(15)} == {"a"}
        assert {one.command.agent_id for one in await b.assigned(15)} == {"b"}
        assert (await server.state(a.command_ids[0])).status == ASSIGNED


async def test_large_commands_come_without_waiting_for_the_poll_although_a_claim_is_bounded_in_bytes(
    server: RunningServer,
) -> None:
    ids = [await server.queue(params={"text": "x" * 250_000}) for _ in range(40)]
    async with server.agent(capacity=100) as agent:
        await agent.assigned(40)
        assert agent.command_ids == ids
        # Clients receive 4 MiB unless told otherwise; acknowledgements and cancels travel beside commands.
        assert max(message.ByteSize() for message in agent.messages) < 3.5 * 1024 * 1024


async def test_batches_of_several_callers_reach_all_agents_without_a_poll(valkey_url: str) -> None:
    """Together they are more than one exchange with Valkey takes."""
    names = [f"agent-{number}" for number in range(8)]
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_server(valkey_url, polling_interval=600))
        agents = [await stack.enter_async_context(server.agent(name)) for name in names]
        batches = [
            command_service_pb2.QueueCommandsRequest(requests=[queue_request(name) for _ in range(250)])
            for name in names
        ]
        await asyncio.gather(*map(server.commands.QueueCommands, batches))
        await until(lambda: all(any(message.commands.assignments for message in agent.messages) for agent in agents))
