"""What comes beyond a bound is refused with the name of the limit, and the bound is free again afterwards."""

from __future__ import annotations

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from distributor.v1 import command_service_pb2 as pb
from tests.support.running_server import RunningServer, running_server
from tests.support.told_errors import error_of, error_of_stream
from tests.support.waiting import eventually


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
        health = health_pb2_grpc.HealthStub(server.channel)
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


async def agents_known(server: RunningServer) -> list[str]:
    response = await server.commands.ListAgents(pb.ListAgentsRequest())
    return [agent.agent_id for agent in response.agents]
