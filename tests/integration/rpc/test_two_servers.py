"""Two servers on one Valkey: it does not matter at which one a caller asks, and at which one an agent is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from valkey.asyncio import Valkey

from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.v1.command_service_pb2 import (
    AGENT_STATUS_ONLINE,
    CancelCommandRequest,
    WatchCommandRequest,
    WatchCommandsRequest,
)
from tests.support.received_errors import told
from tests.support.running_server import CANCELLED, COMPLETED, RunningServer, running_server
from tests.support.waiting import PATIENCE_SECONDS
from tests.support.wire_agent import running


@pytest.fixture
async def another(server: RunningServer) -> AsyncIterator[RunningServer]:
    """A second server on the Valkey of `server`, with the same poll of a minute."""
    async with running_server(server.settings.valkey_url) as another:
        yield another


async def test_a_command_queued_at_one_is_given_out_by_the_other(server: RunningServer, another: RunningServer) -> None:
    async with another.agent() as agent:
        for _ in range(3):
            command_id = await server.queue()
            await agent.finish(await agent.next_assignment(command_id))
            assert (await server.result(command_id)).status == COMPLETED
        assert (await server.agent_info()).status == AGENT_STATUS_ONLINE


async def test_a_cancel_at_one_reaches_the_agent_at_the_other(server: RunningServer, another: RunningServer) -> None:
    async with another.agent() as agent:
        command_id = await server.queue()
        assignment = await agent.next_assignment(command_id)
        await server.commands.CancelCommand(CancelCommandRequest(command_id=command_id, reason="enough"))
        (cancel,) = await agent.until(lambda: agent.cancels)
        assert (cancel.command_id, cancel.reason) == (command_id, "enough")
        await agent.finish(assignment, status=CANCELLED)
        assert (await server.result(command_id)).status == CANCELLED


async def test_a_watch_at_one_sees_what_happens_at_the_other(server: RunningServer, another: RunningServer) -> None:
    async with another.agent() as agent:
        # Any: what is read may also be EOF, so to the stubs it is an object.
        everything: Any = server.commands.WatchCommands(WatchCommandsRequest(), timeout=PATIENCE_SECONDS)
        await everything.read()
        command_id = await another.queue()
        request = WatchCommandRequest(command_id=command_id)
        watching: Any = server.commands.WatchCommand(request, timeout=PATIENCE_SECONDS)
        await watching.read()
        assignment = await agent.next_assignment(command_id)
        await agent.start(assignment)
        await agent.print(assignment, b"live", 0)
        while not (update := await watching.read()).HasField("output"):
            pass
        assert update.output.data == b"live"
        await agent.finish(assignment, output_bytes=4)
        while not (update := await watching.read()).HasField("result"):
            pass
        assert update.result.status == COMPLETED
        while (await everything.read()).commands[-1].state.status != COMPLETED:
            pass
        everything.cancel()


async def test_an_agent_that_moves_takes_its_work_along(server: RunningServer, another: RunningServer) -> None:
    async with server.agent() as here:
        command_id = await server.queue()
        assignment = await here.next_assignment(command_id)
        await here.start(assignment)
        await here.heartbeat()
        async with another.agent(running=[running(assignment)]) as there:
            # The same instance: the newest session wins, whichever server has it.
            assert told(await here.ended(), here.details, here.trailing).reason == "SUPERSEDED"
            assert there.welcome.verdicts[0].verdict == gateway.VERDICT_KEEP
            await there.finish(assignment)
            assert (await server.result(command_id)).status == COMPLETED
            await there.next_assignment(await server.queue())


async def test_what_was_not_received_is_given_out_where_the_agent_is_now(
    server: RunningServer, another: RunningServer
) -> None:
    async with server.agent() as here:
        command_id = await server.queue()
        await here.next_assignment(command_id)
        async with another.agent() as there:
            assignment = await there.next_assignment(command_id, attempt=2)
            await there.finish(assignment)
            assert (await server.result(command_id)).attempt == 2


async def test_one_key_at_both(server: RunningServer, another: RunningServer) -> None:
    key = {"idempotency_key": "key-1"}
    ids = await asyncio.gather(*(one.queue(**key) for one in (server, another) * 10))
    assert len(set(ids)) == 1


async def test_an_agent_goes_to_another_server_after_valkey_was_emptied(
    server: RunningServer, another: RunningServer
) -> None:
    """Its epochs start again, so that the new session has a smaller one than those before."""
    for _ in range(2):
        async with server.agent():
            pass
    async with server.agent() as before:
        async with Valkey.from_url(server.settings.valkey_url) as valkey:
            await valkey.flushall()
        async with another.agent() as agent:
            assert agent.welcome.epoch < before.welcome.epoch
            command_id = await another.queue()
            await agent.finish(await agent.next_assignment(command_id))
            assert (await server.result(command_id)).status == COMPLETED
