"""What callers, agents and watchers learn while nothing can be made durable, and once it can."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from distributor.store.embedded import EmbeddedValkey
from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1 import command_pb2
from distributor.v1 import command_service_pb2 as service
from tests.support.received_errors import error_of
from tests.support.running_server import COMPLETED, RunningServer, intercepted_server, queue_request, quick_settings
from tests.support.waiting import eventually, until
from tests.support.wire_agent import WireAgent, hello, opened_stream, running


class Disk:
    """The disk of an embedded Valkey: fsyncs wait while it is held, and fail while it is broken."""

    def __init__(self, server: RunningServer) -> None:
        embedded = server.process._embedded
        assert embedded is not None
        self.valkey: EmbeddedValkey = embedded
        self.broken = False
        self.waiting = 0
        self._released = asyncio.Event()
        self._released.set()
        self._loop = asyncio.get_running_loop()
        embedded.cadence._files._fdatasync = self._fdatasync

    def hold(self) -> None:
        self._released.clear()

    def release(self) -> None:
        self._released.set()

    def _fdatasync(self, descriptor: int) -> None:
        asyncio.run_coroutine_threadsafe(self._wait(), self._loop).result()
        if self.broken:
            raise OSError(5, "Input/output error")
        os.fdatasync(descriptor)

    async def _wait(self) -> None:
        self.waiting += 1
        await self._released.wait()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server with durability disk and an embedded Valkey."""
    settings = quick_settings("", data_dir=tmp_path, durability="disk")
    async with intercepted_server(settings) as server:
        yield server


@pytest.fixture
async def disk(server: RunningServer) -> Disk:
    return Disk(server)


async def assignment_of(server: RunningServer, agent: WireAgent) -> pb.Assignment:
    """A command that the agent has started."""
    await agent.heartbeat()
    assignment = await agent.next_assignment(await server.queue())
    await agent.start(assignment)
    await server.until_state(assignment.command.command_id, lambda state: state.receipts.HasField("start_time"))
    return assignment


async def test_everything_waits_for_the_disk_but_heartbeats_and_reads(server: RunningServer, disk: Disk) -> None:
    async with server.agent() as agent, server.agent("agent456") as idle_agent:
        first = await assignment_of(server, agent)
        disk.hold()
        waiting = disk.waiting
        command_id = first.command.command_id
        ending = asyncio.ensure_future(server.result(command_id))
        reporting = asyncio.ensure_future(agent.finish(first))
        queueing = asyncio.ensure_future(server.queue())
        await until(lambda: disk.waiting > waiting)
        await eventually(lambda: _has_ended(server, command_id))
        await idle_agent.heartbeat()
        assert not any(one.done() for one in (reporting, queueing))
        assert len(agent.assignments) == 1
        disk.release()
        (ack,) = await reporting
        assert ack.verdict == pb.RESULT_VERDICT_STORED
        assert (await ending).status == COMPLETED
        await agent.next_assignment(await queueing)


async def _has_ended(server: RunningServer, command_id: str) -> bool:
    return (await server.state(command_id)).status == COMPLETED


async def test_a_result_that_may_be_lost_is_not_acknowledged_and_is_sent_again(
    server: RunningServer, disk: Disk
) -> None:
    async with opened_stream(server.address) as agent:
        await agent.send(hello=hello())
        await agent.until(lambda: agent.messages)
        assignment = await assignment_of(server, agent)
        disk.broken = True
        await agent.send(results=[_result(assignment)])
        assert await agent.ended() is grpc.StatusCode.UNAVAILABLE
        assert "may or may not survive" in agent.details
        assert not agent.result_acks
    disk.broken = False
    # Valkey writes new files, and the agent is taken back. That the result is stored is durable by then.
    command_id = assignment.command.command_id
    verdict = await eventually(lambda: _verdict_after_reconnect(server, assignment))
    assert verdict.command_id == command_id
    assert (await server.result(command_id)).status == COMPLETED
    assert (await server.state(command_id)).attempt == 1


def _result(assignment: pb.Assignment) -> pb.Result:
    return pb.Result(
        command_id=assignment.command.command_id,
        lease_id=assignment.lease_id,
        status=command_pb2.COMMAND_STATUS_COMPLETED,
    )


async def _verdict_after_reconnect(server: RunningServer, assignment: pb.Assignment) -> pb.HeldCommandVerdict | None:
    async with opened_stream(server.address) as agent:
        await agent.send(hello=hello(unacknowledged=[running(assignment)]))
        await until(lambda: agent.code is not None or any(one.HasField("welcome") for one in agent.messages))
        if agent.code is not None:
            return None
        (verdict,) = agent.welcome.verdicts
        await agent.leave()
        return verdict


async def test_what_could_not_be_delivered_durably_runs_once(server: RunningServer, disk: Disk) -> None:
    async with server.agent() as agent:
        await agent.heartbeat()
        disk.broken = True
        request = queue_request(idempotency_key="once")
        error = await error_of(server.commands.QueueCommand(request))
        assert (error.code, error.reason, error.retry_after_seconds) == ("UNAVAILABLE", "NOT_DURABLE", 1.0)
        assert not agent.assignments
    disk.broken = False
    response = await eventually(lambda: _queued(server, request))
    command_id = response.command.command_id
    assert await server.ids() == [command_id]
    async with server.agent() as agent:
        await agent.heartbeat()
        (assignment,) = await agent.assigned()
        assert assignment.command.command_id == command_id
        await agent.finish(assignment)
    assert (await server.result(command_id)).status == COMPLETED


async def _queued(server: RunningServer, request: service.QueueCommandRequest) -> service.QueueCommandResponse | None:
    try:
        response: service.QueueCommandResponse = await server.commands.QueueCommand(request)
    except grpc.aio.AioRpcError:
        return None
    return response


async def test_a_valkey_that_is_killed_during_an_fsync_runs_nothing_twice(server: RunningServer, disk: Disk) -> None:
    disk.hold()
    request = queue_request(idempotency_key="once")
    queueing = asyncio.ensure_future(_queued(server, request))
    await eventually(server.ids)
    killed = disk.valkey.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    await until(lambda: disk.valkey.pid != killed)
    assert not queueing.done() or not queueing.result()
    disk.release()
    await queueing
    again = await eventually(lambda: _queued(server, request))
    assert await server.ids() == [again.command.command_id]
