"""What heartbeats report is what GetAgent and ListAgents show."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from distributor.v1 import agent_gateway_pb2 as pb_gateway
from distributor.v1 import command_pb2
from distributor.v1 import command_service_pb2 as pb
from tests.support.running_server import RunningServer, running_server


async def listed(server: RunningServer, *statuses: pb.AgentStatus.ValueType) -> list[str]:
    response = await server.commands.ListAgents(pb.ListAgentsRequest(statuses=statuses))
    return [agent.agent_id for agent in response.agents]


async def test_the_vitals_of_an_agent_are_shown_by_every_server(valkey_url: str) -> None:
    async with running_server(valkey_url) as here, running_server(valkey_url) as there, here.agent() as agent:
        await agent.heartbeat()
        healthy = await there.agent_info()
        assert (healthy.status, healthy.revision) == (pb.AGENT_STATUS_ONLINE, 1)

        problem = command_pb2.Reason(code="journal_full", message="no room")
        await agent.heartbeat(handler_lag=Duration(seconds=1, nanos=250_000_000), problems=[problem])
        info = await there.agent_info()
        assert (info.status, info.revision) == (pb.AGENT_STATUS_DEGRADED, 2)
        assert (info.handler_lag.ToMilliseconds(), list(info.problems)) == (1_200, [problem])

        await agent.heartbeat(draining=True)
        assert (await there.agent_info()).status == pb.AGENT_STATUS_DRAINING

        await agent.heartbeat(handler_lag=Duration(nanos=5_000_000))
        info = await there.agent_info()
        assert (info.status, info.revision, list(info.problems)) == (pb.AGENT_STATUS_ONLINE, 4, [])


@pytest.mark.parametrize(
    ("vitals", "status"),
    [
        ({"problems": [command_pb2.Reason(code="journal_full")]}, pb.AGENT_STATUS_DEGRADED),
        ({"draining": True}, pb.AGENT_STATUS_DRAINING),
    ],
)
async def test_the_new_statuses_filter_a_list(
    valkey_url: str, vitals: dict[str, Any], status: pb.AgentStatus.ValueType
) -> None:
    async with running_server(valkey_url) as server, server.agent() as agent, server.agent("other"):
        await agent.heartbeat(**vitals)
        assert await listed(server, status) == ["agent123"]
        assert await listed(server, pb.AGENT_STATUS_ONLINE) == ["other"]
        assert await listed(server, status, pb.AGENT_STATUS_ONLINE) == ["agent123", "other"]


async def test_every_server_shows_since_when_a_command_has_been_silent(valkey_url: str) -> None:
    async with (
        running_server(valkey_url, heartbeat_interval=0.05) as here,
        running_server(valkey_url) as there,
        here.agent() as agent,
    ):
        command_id = await here.queue()
        (assignment,) = await agent.assigned(1)
        await agent.start(assignment)
        await here.until_state(command_id, lambda state: state.receipts.HasField("start_time"))
        silent = pb_gateway.CommandProgress(command_id=command_id, silence=Duration(nanos=200_000_000))
        unknown = pb_gateway.CommandProgress(command_id="unknown", silence=Duration(seconds=9))
        await agent.heartbeat(4, 1, progress=[silent, unknown])
        state = await there.state(command_id)
        assert state.HasField("progress_time")
        await agent.heartbeat(4, 1)
        assert (await there.state(command_id)).progress_time == state.progress_time
        silent.silence.nanos = 10_000_000
        await agent.heartbeat(4, 1, progress=[silent])
        assert not (await there.state(command_id)).HasField("progress_time")
