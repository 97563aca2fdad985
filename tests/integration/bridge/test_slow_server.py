"""A server that does not answer, or is not there: what does not need it goes on."""

from __future__ import annotations

import asyncio
from unittest.mock import patch

from distributor.bridge.command_calls import MAX_PENDING, CommandCalls
from distributor.bridge.requests import Queue
from distributor.client import Command, QueuedCommand
from distributor.errors import Unavailable
from tests.support.protocol_schema import check
from tests.support.running_bridge import RunningBridge
from tests.support.running_server import RunningServer
from tests.support.waiting import PATIENCE_SECONDS

WAITING = {"agentId": "nobody", "commandType": "PING", "offline": "queue"}


async def test_requests_that_wait_hold_up_nothing_else_and_keep_their_order(
    server: RunningServer, bridge: RunningBridge
) -> None:
    real, answers = CommandCalls.queue, asyncio.Event()

    async def queue(self: CommandCalls, request: Queue) -> QueuedCommand:
        if request.request_id == "0":
            await answers.wait()
        return await real(self, request)

    known = await server.queue("nobody")
    with patch.object(CommandCalls, "queue", queue):
        async with bridge.dashboard() as dashboard:
            for number in range(3):
                await dashboard.say("command:request", **WAITING, requestId=str(number))
            await dashboard.settled()
            await dashboard.say("subscribe", commands=[known])
            await dashboard.first("command:status", commandId=known)
            await dashboard.say("command:interrupt", commandId=known)
            await dashboard.first("command:result", commandId=known)
            assert not dashboard.of("command:accepted")
            answers.set()
            await dashboard.until(lambda: len(dashboard.of("command:accepted")) == 3)
            assert [accepted["requestId"] for accepted in dashboard.of("command:accepted")] == ["0", "1", "2"]


async def test_who_asks_for_more_than_can_wait_is_told_so_and_read_on(bridge: RunningBridge) -> None:
    """While it was not, its pongs would not be seen, and it would be taken for dead."""

    async def queue(self: CommandCalls, request: Queue) -> QueuedCommand:
        await asyncio.Event().wait()
        raise AssertionError

    with patch.object(CommandCalls, "queue", queue):
        async with bridge.dashboard() as dashboard:
            for number in range(MAX_PENDING + 2):
                await dashboard.say("command:request", **WAITING, requestId=str(number))
            refused = await dashboard.first("error")
            assert (refused["code"], refused["reason"]) == ("RESOURCE_EXHAUSTED", "TOO_MANY_REQUESTS")
            # One may have been taken already, and be with the server.
            assert refused["requestId"] in (str(MAX_PENDING), str(MAX_PENDING + 1))
            await dashboard.settled()


async def test_a_dashboard_that_goes_while_its_request_waits(bridge: RunningBridge) -> None:
    asked, dropped = asyncio.Event(), asyncio.Event()

    async def queue(self: CommandCalls, request: Queue) -> QueuedCommand:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            dropped.set()
        raise AssertionError

    with patch.object(CommandCalls, "queue", queue):
        async with bridge.dashboard() as dashboard:
            await dashboard.say("command:request", agentId="nobody", commandType="PING")
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asked.wait()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await dropped.wait()


async def test_a_command_is_told_without_its_params_while_the_server_is_away(
    server: RunningServer, bridge: RunningBridge
) -> None:
    command_id = await server.queue("nobody", params={"target": "x"})

    async def get(self: CommandCalls, command_id: str) -> Command:
        raise Unavailable("the server cannot be reached")

    with patch.object(CommandCalls, "get", get):
        answer = await bridge.get(f"/api/commands/{command_id}")
    assert answer.status == 200
    check(answer.json(), "apiCommand")
    assert answer.json()["command"]["params"] is None
    assert answer.json()["command"]["commandId"] == command_id
