"""Emergency stops on a real server: nothing is queued, assigned or runs, and each agent says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from distributor.model.stop_scope import StopScope
from distributor.store.connections import StoreConnections
from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1 import emergency_pb2
from distributor.wire.limits import MAX_HELD
from tests.support.emergency import CONFIRMED, REFUSED, STOPPING, UNREACHABLE, emergency, reports, resume, stop
from tests.support.received_errors import error_of, error_of_stream
from tests.support.running_server import ASSIGNED, CANCELLED, QUEUED, RunningServer, running_server
from tests.support.store_world import StoreWorld

HALTS = pb.HaltMemory()


@pytest.fixture
async def server(valkey_url: str) -> AsyncIterator[RunningServer]:
    async with running_server(valkey_url) as server:
        yield server


async def test_nothing_is_queued_for_stopped_agents(server: RunningServer) -> None:
    begun = await stop(server, "web-*", reason="leak")
    refused = await error_of(server.queue("web-1"))
    assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "EMERGENCY_STOP")
    assert begun.stop_id in refused.text
    assert await server.queue("db-1")
    assert await server.queue("web-1", "PING"), "PING runs no work"
    assert await resume(server) == [begun.stop_id]
    assert await server.queue("web-1")


async def test_what_is_queued_waits_until_resume(server: RunningServer) -> None:
    command_id = await server.queue()
    begun = await stop(server)
    async with server.agent(halts=HALTS) as agent:
        assert agent.welcome.halt.stop_id == begun.stop_id
        await agent.heartbeat(credit=5)
        assert (await server.state(command_id)).status == QUEUED
        await resume(server)
        await agent.next_assignment(command_id)


async def test_what_runs_is_ended_and_the_agent_confirms(server: RunningServer) -> None:
    async with server.agent(halts=HALTS) as agent:
        command_id = await server.queue()
        assignment = await agent.next_assignment(command_id)
        await agent.start(assignment)
        begun = await stop(server, reason="leak")
        (halt,) = await agent.until(lambda: agent.halts)
        assert (halt.stop_id, halt.reason) == (begun.stop_id, "leak")
        await agent.until(lambda: [one.command_id for one in agent.cancels] == [command_id])
        report = (await reports(server, begun.stop_id, 0))["agent123"]
        assert report.status == STOPPING
        await agent.send(halted=pb.Halted(stop_id=begun.stop_id, running=[pb.StillRunning(command_id=command_id)]))
        await agent.finish(assignment, status=CANCELLED, reason={"code": "cancelled", "message": "as asked"})
        await agent.send(halted=pb.Halted(stop_id=begun.stop_id))
        report = (await reports(server, begun.stop_id))["agent123"]
        assert report.status == CONFIRMED
        result = await server.result(command_id)
        assert (result.status, result.reason.code) == (CANCELLED, "emergency_stop")
        assert result.reason.message == f"emergency stop {begun.stop_id}: leak"


async def test_an_agent_that_does_not_know_stops_is_cancelled_and_reported(server: RunningServer) -> None:
    async with server.agent() as agent:
        command_id = await server.queue()
        await agent.start(await agent.next_assignment(command_id))
        begun = await stop(server)
        await agent.until(lambda: agent.cancels)
        report = (await reports(server, begun.stop_id))["agent123"]
        assert (report.status, report.reason.code) == (REFUSED, "unsupported_agent")
        assert (await server.state(command_id)).status == ASSIGNED
        assert not agent.halts


async def test_an_agent_that_is_away_is_reported_with_its_end(server: RunningServer) -> None:
    async with server.agent(halts=HALTS, orphan_after={"seconds": 60}):
        pass
    await server.until_away()
    begun = await stop(server, "agent123", "nobody")
    found = await reports(server, begun.stop_id)
    away, never = found["agent123"], found["nobody"]
    assert (away.status, away.reason.code) == (UNREACHABLE, "away")
    assert away.orphan_time.seconds - begun.stop_time.seconds + 1 >= 60
    assert (never.status, never.reason.code) == (UNREACHABLE, "never_connected")
    assert not never.HasField("orphan_time")


async def test_a_stop_reaches_every_server_although_the_one_that_was_called_has_died(
    server: RunningServer, valkey_url: str
) -> None:
    async with server.agent(halts=HALTS) as agent:
        command_id = await server.queue()
        await agent.start(await agent.next_assignment(command_id))
        connections = StoreConnections.to(valkey_url)
        try:
            # All that it could do.
            await StoreWorld(connections).stops.stop("s1", StopScope(all=True), "leak", "tester")
        finally:
            await connections.close()
        (halt,) = await agent.until(lambda: agent.halts)
        assert halt.stop_id == "s1"
        await agent.until(lambda: [one.command_id for one in agent.cancels] == [command_id])


async def test_room_that_becomes_free_during_a_stop_is_used_after_it(server: RunningServer) -> None:
    async with server.agent(halts=HALTS) as agent:
        await agent.heartbeat(credit=0, running=5)
        command_id = await server.queue()
        begun = await stop(server)
        await agent.heartbeat(credit=5)
        assert (await server.state(command_id)).status == QUEUED
        assert agent.command_ids == []
        await resume(server)
        assert await agent.until(lambda: agent.resumed) == [begun.stop_id]
        await agent.heartbeat(credit=5)
        await agent.next_assignment(command_id)


async def test_a_stop_is_in_force_after_the_embedded_valkey_has_restarted(tmp_path: Path) -> None:
    async with running_server("", data_dir=tmp_path) as server:
        begun = await stop(server, "web-*")
    async with running_server("", data_dir=tmp_path) as server:
        refused = await error_of(server.queue("web-1"))
        assert refused.reason == "EMERGENCY_STOP"
        async with server.agent("web-1", halts=HALTS) as agent:
            assert agent.welcome.halt.stop_id == begun.stop_id
        assert await resume(server) == [begun.stop_id]
        assert await server.queue("web-1")


async def test_what_an_agent_may_say_of_a_halt_is_bounded(server: RunningServer) -> None:
    async with server.agent(halts=HALTS) as agent:
        begun = await stop(server)
        await agent.until(lambda: agent.halts)
        running = [pb.StillRunning(command_id=f"c{number}") for number in range(MAX_HELD + 1)]
        await agent.send(halted=pb.Halted(stop_id=begun.stop_id, running=running))
        await agent.ended()
        assert "halted.running" in agent.details


@pytest.mark.parametrize("seconds", [2**63 - 1, -(2**63)])
async def test_a_watch_for_any_time_is_answered(server: RunningServer, seconds: int) -> None:
    request = emergency_pb2.WatchStopRequest(stop_id="none")
    request.timeout.seconds = seconds
    error = await error_of_stream(emergency(server).WatchStop(request))
    assert (error.code, error.reason) == ("NOT_FOUND", "UNKNOWN_STOP")
