"""A client that knows several servers goes on when one of them stops."""

from __future__ import annotations

from distributor.client import CommandClient, CommandRequest
from tests.support.free_port import free_port
from tests.support.running_server import running_server


async def test_calls_and_watches_go_on_at_another_server(valkey_url: str) -> None:
    async with running_server(valkey_url) as first, running_server(valkey_url) as second:
        servers = {server.address: server for server in (first, second)}
        async with CommandClient(",".join(servers)) as client, second.agent() as agent:
            queued = await client.queue(CommandRequest("agent123", "PRINT"))
            (assignment,) = await agent.assigned()
            watching = client.watch(queued.command_id)
            await anext(watching)
            await first.process.stop()
            await client.queue(CommandRequest("agent456", "PRINT"))
            await agent.finish(assignment)
            async for _ in watching:
                pass
            assert (await client.result(queued.command_id)).status == "completed"


async def test_a_server_that_cannot_be_reached_is_passed_over(valkey_url: str) -> None:
    async with running_server(valkey_url) as server:
        with free_port() as nobody:
            for order in (f"127.0.0.1:{nobody},{server.address}", f"{server.address},localhost:{nobody}"):
                async with CommandClient(order) as client:
                    await client.queue(CommandRequest("agent123", "PRINT"))
