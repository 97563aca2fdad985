"""Agents that hold on to a stream without taking part: the server lets go of each in bounded time."""

from __future__ import annotations

import pytest

from distributor.rpc import agent_gateway
from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1.command_service_pb2 import ListCommandsRequest
from tests.support.running_server import ASSIGNED, QUEUED, RunningServer, running_server
from tests.support.told_errors import told
from tests.support.waiting import eventually
from tests.support.wire_agent import hello, opened_stream

CONNECT = "/distributor.v1.AgentGatewayService/Connect"
QUICK = {"heartbeat_interval": 0.1, "start_within": 0.2, "offline_after": 0.4, "ack_deadline": 0.5}


def attached(server: RunningServer) -> float | None:
    return server.process.metrics.registry.get_sample_value("distributor_agents_connected")


async def test_an_agent_that_does_not_read_is_let_go_although_a_write_to_it_is_stuck(valkey_url: str) -> None:
    async with running_server(valkey_url, **QUICK, delivery_attempts=100) as server:
        ids = [await server.queue(params={"text": "x" * 250_000}) for _ in range(60)]
        call = server.channel.stream_stream(CONNECT)()
        await call.write(pb.ConnectRequest(hello=hello(capacity=1_000)).SerializeToString())

        async def taken() -> bool:
            return attached(server) == 1

        async def let_go() -> bool:
            return attached(server) == 0

        await eventually(taken)
        await eventually(let_go)
        call.cancel()
        # Nothing was lost with it: what it was given is given out again, or waits for that.
        listed = await server.commands.ListCommands(ListCommandsRequest(page_size=1_000))
        assert {command.command_id for command in listed.commands} == set(ids)
        assert {command.state.status for command in listed.commands} <= {QUEUED, ASSIGNED}
        info = await server.until_away()
        assert info.HasField("away_since")


async def test_a_stream_on_which_nothing_is_said_is_ended(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_gateway, "HELLO_TIMEOUT_SECONDS", 0.2)
    async with running_server(valkey_url) as server, opened_stream(server.address) as silent:
        error = told(await silent.ended(), silent.details, silent.trailing)
        assert (error.code, error.reason) == ("ABORTED", "NO_HELLO")
        assert "within 0.2 s" in error.text
