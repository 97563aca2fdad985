"""What our own agent reports about itself and its commands is what the server shows."""

from __future__ import annotations

import asyncio

from distributor.agent import Agent, CommandContext
from distributor.v1 import command_pb2
from distributor.v1 import command_service_pb2 as pb
from tests.support.running_server import running_server
from tests.support.serving_agent import background
from tests.support.waiting import eventually


async def test_a_silent_command_and_a_leaving_agent_are_shown(valkey_url: str) -> None:
    async with running_server(valkey_url, heartbeat_interval=0.1, offline_after=5.0) as server:
        agent = Agent("agent123", server=server.address, capacity=2)

        @agent.handler("QUIET")
        async def quiet(command: CommandContext) -> None:
            await asyncio.Event().wait()

        async with background(agent.serve()):
            command_id = await server.queue(command_type="QUIET")

            async def silent() -> command_pb2.CommandState | None:
                state = await server.state(command_id)
                return state if state.HasField("progress_time") else None

            state = await eventually(silent)
            assert state.status == command_pb2.COMMAND_STATUS_ASSIGNED

            agent.stop()

            async def draining() -> pb.Agent | None:
                info = await server.agent_info()
                return info if info.status == pb.AGENT_STATUS_DRAINING else None

            assert (await eventually(draining)).running == 1
