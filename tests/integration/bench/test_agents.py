"""The benchmark's agents come and go as their protocol says."""

from __future__ import annotations

import asyncio

from bench.agents import InstantAgent
from tests.support.running_server import RunningServer, running_server
from tests.support.waiting import PATIENCE_SECONDS, eventually


async def test_an_agent_leaves_while_commands_arrive(valkey_url: str) -> None:
    """gRPC tells how a stream has ended only after the last message has been read."""
    async with running_server(valkey_url) as server:
        await leave_amid_commands(server)


async def leave_amid_commands(server: RunningServer) -> None:
    agent = InstantAgent("agent123", capacity=5)
    await agent.attach(server.address)
    agent.serve()
    async with agent._writing:
        leaving = asyncio.create_task(agent.leave())
        await asyncio.sleep(0)
        for number in range(1, 4):
            # Each comes in a message of its own. The agent is about to answer the first, after its Goodbye.
            await server.queue()

            async def assigned(number: int = number) -> bool:
                return (await server.agent_info()).running == number

            await eventually(assigned)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await leaving
