"""What comes beyond a bound is refused with the name of the limit, and the bound is free again afterwards."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from distributor.identity.caller import Caller, CallerKind
from distributor.v1 import command_service_pb2 as pb
from distributor.v1 import credentials_pb2, emergency_pb2
from distributor.v1.credentials_pb2_grpc import CredentialServiceStub
from distributor.v1.emergency_pb2_grpc import EmergencyServiceStub
from tests.support.known_callers import VIEWER, KnownCallers, credentials_of
from tests.support.received_errors import error_of, error_of_stream
from tests.support.running_server import RunningServer, running_server
from tests.support.waiting import eventually
from tests.support.wire_agent import WireAgent, hello, opened_stream


async def test_calls_beyond_the_limit(valkey_url: str) -> None:
    async with running_server(valkey_url, max_calls=1) as server:
        watch = server.commands.WatchCommands(pb.WatchCommandsRequest())
        await watch.read()
        for call in (
            error_of(server.commands.ListCommands(pb.ListCommandsRequest())),
            error_of_stream(server.commands.WatchCommands(pb.WatchCommandsRequest())),
        ):
            error = await call
            assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_CALLS")
            assert "max_calls" in error.text
            assert error.retry_after_seconds
        watch.cancel()

        async def answered() -> bool:
            try:
                await server.commands.ListCommands(pb.ListCommandsRequest())
            except grpc.aio.AioRpcError:
                return False
            return True

        await eventually(answered)


async def test_health_and_agents_are_no_calls_that_count(valkey_url: str) -> None:
    async with running_server(valkey_url, max_calls=1) as server:
        watch = server.commands.WatchCommands(pb.WatchCommandsRequest())
        await watch.read()
        # Its stubs do not say that it has methods.
        health: Any = health_pb2_grpc.HealthStub(server.channel)
        answer = await health.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        async with server.agent() as agent:
            assert agent.welcome.epoch == 1
        watch.cancel()


async def test_agents_beyond_the_limit(valkey_url: str) -> None:
    async with running_server(valkey_url, max_agents=1) as server, server.agent("first"):
        with pytest.raises(AssertionError, match=r"RESOURCE_EXHAUSTED .*\(max_agents\)"):
            async with server.agent("second"):
                pass
        assert await agents_known(server) == ["first"]


async def test_streams_that_say_hello_together_are_no_more_agents_than_allowed(valkey_url: str) -> None:
    async with running_server(valkey_url, max_agents=2) as server, AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(opened_stream(server.address)) for _ in range(4)]
        await asyncio.gather(*(stream.send(hello=hello(f"agent{n}")) for n, stream in enumerate(streams)))
        await eventually(lambda: said(streams))
        assert sum(bool(stream.messages) for stream in streams) == 2
        assert (
            sorted(str(stream.code) for stream in streams if not stream.messages)
            == ["StatusCode.RESOURCE_EXHAUSTED"] * 2
        )


async def said(streams: list[WireAgent]) -> bool:
    return all(stream.messages or stream.code for stream in streams)


async def test_an_agent_that_comes_back_is_let_in_at_the_limit(valkey_url: str) -> None:
    async with running_server(valkey_url, max_agents=1) as server, server.agent("first") as older:
        async with server.agent("first") as newer:
            assert newer.welcome.epoch == older.welcome.epoch + 1
            assert await older.ended() is grpc.StatusCode.ABORTED
            await newer.leave()
        async with server.agent("second"):
            pass


async def test_one_caller_leaves_calls_to_the_others(valkey_url: str) -> None:
    callers = KnownCallers(STOLEN, VIEWER)
    async with running_server(valkey_url, authenticator=callers, max_calls=4) as server, AsyncExitStack() as stack:
        health: Any = health_pb2_grpc.HealthStub(server.channel)
        for _ in range(2):
            watch = health.Watch(health_pb2.HealthCheckRequest(), metadata=credentials_of(STOLEN))
            stack.callback(watch.cancel)
            await watch.read()
        watch = health.Watch(health_pb2.HealthCheckRequest(), metadata=credentials_of(STOLEN))
        error = await error_of_stream(watch)
        assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_CALLS")
        assert error.text == "stolen has 2 calls in progress, half of the limit (max_calls)"
        assert error.retry_after_seconds
        await server.commands.ListCommands(pb.ListCommandsRequest(), metadata=credentials_of(VIEWER))


async def test_a_stop_and_a_revocation_do_not_wait_for_other_calls(valkey_url: str) -> None:
    async with running_server(valkey_url, max_calls=1) as server:
        watch = server.commands.WatchCommands(pb.WatchCommandsRequest())
        await watch.read()
        assert (await error_of(server.commands.ListCommands(pb.ListCommandsRequest()))).reason == "TOO_MANY_CALLS"
        scope = emergency_pb2.StopScope(all=True)
        await EmergencyServiceStub(server.channel).Stop(emergency_pb2.StopRequest(scope=scope))
        await EmergencyServiceStub(server.channel).Resume(emergency_pb2.ResumeRequest(all=True))
        await CredentialServiceStub(server.channel).RevokeAgent(credentials_pb2.RevokeAgentRequest(agent_id="stolen"))
        watch.cancel()


STOLEN, HONEST = Caller(CallerKind.AGENT, "stolen"), Caller(CallerKind.AGENT, "honest")


async def test_streams_of_one_agent_without_hello_leave_room_for_the_others(valkey_url: str) -> None:
    callers = KnownCallers(STOLEN, HONEST)
    async with (
        running_server(valkey_url, authenticator=callers, max_agents=2, agent_streams=3) as server,
        AsyncExitStack() as stack,
    ):
        streams = [
            await stack.enter_async_context(opened_stream(server.address, credentials_of(STOLEN))) for _ in range(4)
        ]
        await eventually(lambda: ended_of(streams, 1))
        (refused,) = (stream for stream in streams if stream.details)
        assert "(agent_streams)" in refused.details
        async with server.agent("honest", credentials=credentials_of(HONEST)):
            pass


async def test_an_agent_that_connects_all_the_time_leaves_the_attach_rate_to_the_others(valkey_url: str) -> None:
    callers = KnownCallers(STOLEN, HONEST)
    async with (
        running_server(valkey_url, authenticator=callers, attach_rate=4, agent_connects=2) as server,
        AsyncExitStack() as stack,
    ):
        streams = [
            await stack.enter_async_context(opened_stream(server.address, credentials_of(STOLEN))) for _ in range(10)
        ]
        # Nothing is written: a write that races with the end of its stream hides the reason.
        await eventually(lambda: ended_of(streams, 8))
        assert all("(agent_connects)" in stream.details for stream in streams if stream.details)
        async with server.agent("honest", credentials=credentials_of(HONEST)):
            pass


async def ended_of(streams: list[WireAgent], count: int) -> bool:
    return sum(bool(stream.details) for stream in streams) == count


async def agents_known(server: RunningServer) -> list[str]:
    response = await server.commands.ListAgents(pb.ListAgentsRequest())
    return [agent.agent_id for agent in response.agents]
