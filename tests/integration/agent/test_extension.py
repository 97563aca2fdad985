"""A handler that needs more time than its command was queued with, against a real server."""

from __future__ import annotations

import asyncio

from distributor.agent import Agent, CommandContext
from distributor.v1 import command_pb2
from tests.support.running_server import running_server
from tests.support.serving_agent import background

QUICK = {"heartbeat_interval": 0.1, "start_within": 10.0, "offline_after": 60.0, "stop_grace": 0.0}
LIMIT_SECONDS = 0.5


async def test_a_command_that_extends_its_limit_completes_beyond_it(valkey_url: str) -> None:
    async with running_server(valkey_url, **QUICK) as server:
        agent = Agent("agent123", server=server.address, capacity=2)
        others_end = asyncio.Event()

        @agent.handler("LONG")
        async def long(command: CommandContext) -> str:
            command.extend(60.0)
            await others_end.wait()
            # Beyond the grace of the server, too.
            await asyncio.sleep(LIMIT_SECONDS)
            return "done"

        @agent.handler("TOO_LONG")
        async def too_long(command: CommandContext) -> None:
            await asyncio.sleep(60.0)

        async with background(agent.serve()):
            extended = await server.queue(command_type="LONG", time_limit=LIMIT_SECONDS)
            other = await server.queue(command_type="TOO_LONG", time_limit=LIMIT_SECONDS)
            assert (await server.result(other)).status == command_pb2.COMMAND_STATUS_TIMEOUT
            shown = (await server.get(extended)).command.time_limit
            assert shown.seconds == 60
            others_end.set()
            result = await server.result(extended)
            ran = (
                result.finish_time.ToMilliseconds()
                - (await server.state(extended)).receipts.start_time.ToMilliseconds()
            )
        assert result.status == command_pb2.COMMAND_STATUS_COMPLETED
        assert ran > 1_000 * LIMIT_SECONDS
