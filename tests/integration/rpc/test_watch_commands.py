"""WatchCommands: the states of many commands; the last state of each is never left out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import pytest

from distributor.app.timing import ServerTiming
from distributor.v1 import command_service_pb2 as pb
from tests.support.received_errors import error_of_stream
from tests.support.running_server import (
    COMPLETED,
    QUEUED,
    RunningServer,
    queue_request,
    running_server,
)
from tests.support.waiting import PATIENCE_SECONDS
from tests.support.wire_agent import WireAgent


class Viewer:
    """Keeps the latest state of each command."""

    def __init__(self, server: RunningServer, **request: Any) -> None:
        self.latest: dict[str, int] = {}
        self.messages = 0
        watch = pb.WatchCommandsRequest(**request)
        # Any: what is read may also be EOF, so to the stubs it is an object.
        self._call: Any = server.commands.WatchCommands(watch, timeout=2 * PATIENCE_SECONDS)

    async def next(self) -> list[pb.CommandSummary]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            message = await self._call.read()
        self._keep(message)
        return list(message.commands)

    async def until(self, expected: Mapping[str, int]) -> None:
        while not expected.items() <= self.latest.items():
            await self.next()

    async def rest(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (message := await self._call.read()) is not grpc.aio.EOF:
                self._keep(message)

    def _keep(self, message: pb.WatchCommandsResponse) -> None:
        self.messages += 1
        self.latest |= {command.command_id: command.state.status for command in message.commands}


@pytest.fixture
async def agent(server: RunningServer) -> AsyncIterator[WireAgent]:
    async with server.agent(capacity=100) as agent:
        yield agent


async def finish(agent: WireAgent, count: int) -> None:
    """End so many commands, by 20."""
    assignments = await agent.assigned(count)
    for first in range(0, count, 20):
        await agent.finish(*assignments[first : min(first + 20, count)])


async def test_the_state_of_each_first_and_the_end_when_all_have_ended(server: RunningServer) -> None:
    ids = await server.queue_many(50)
    viewer = Viewer(server, command_ids=ids)
    assert sorted(command.command_id for command in await viewer.next()) == sorted(ids)
    assert set(viewer.latest.values()) == {QUEUED}
    async with server.agent(capacity=100) as agent:
        await finish(agent, 50)
    await viewer.rest()
    assert viewer.latest == dict.fromkeys(ids, COMPLETED)


async def test_those_that_have_ended_already_are_told_at_once(server: RunningServer, agent: WireAgent) -> None:
    ids = await server.queue_many(3)
    await finish(agent, 3)
    viewer = Viewer(server, command_ids=[*ids, ids[0]])
    await viewer.rest()
    assert viewer.latest == dict.fromkeys(ids, COMPLETED)


async def test_a_viewer_that_does_not_read_still_learns_the_last_state_of_all(
    server: RunningServer, agent: WireAgent
) -> None:
    ids = await server.queue_many(100)
    viewer = Viewer(server, command_ids=ids)
    await viewer.next()
    await finish(agent, 100)
    for command_id in ids:
        await server.result(command_id)
    await viewer.rest()
    assert viewer.latest == dict.fromkeys(ids, COMPLETED)
    assert viewer.messages < 4 * len(ids)


async def test_every_command_of_some_agents(server: RunningServer, agent: WireAgent) -> None:
    viewer = Viewer(server, agent_ids=["agent123"])
    assert await viewer.next() == []
    others = await server.queue("another")
    mine = await server.queue()
    await finish(agent, 1)
    await viewer.until({mine: COMPLETED})
    assert others not in viewer.latest


async def test_every_command(server: RunningServer, agent: WireAgent) -> None:
    viewer = Viewer(server)
    assert await viewer.next() == []
    requests = pb.QueueCommandsRequest(requests=[queue_request(f"agent-{n}") for n in range(30)])
    queued = [one.command_id for one in (await server.commands.QueueCommands(requests)).outcomes]
    mine = await server.queue()
    await finish(agent, 1)
    await viewer.until(dict.fromkeys(queued, QUEUED) | {mine: COMPLETED})


async def test_output_is_no_news_here(server: RunningServer, agent: WireAgent) -> None:
    viewer = Viewer(server)
    await viewer.next()
    command_id = await server.queue()
    assignment = await agent.next_assignment(command_id)
    await agent.start(assignment)
    for n in range(20):
        await agent.print(assignment, b"x", n)
    await agent.finish(assignment, output_bytes=20)
    while viewer.latest.get(command_id) != COMPLETED:
        assert await viewer.next()


async def test_a_drain_ends_watches_as_unavailable(valkey_url: str) -> None:
    # After the grace, what still runs is cut off without a word.
    async with running_server(valkey_url, timing=ServerTiming(shutdown_grace=PATIENCE_SECONDS)) as server:
        watching = server.commands.WatchCommands(pb.WatchCommandsRequest())
        await watching.read()
        stopping = asyncio.create_task(server.process.stop())
        assert (await error_of_stream(watching))[:3] == ("UNAVAILABLE", "", "DRAINING")
        await stopping
