"""A store that is emptied, or away at the wrong moment: dashboards are told, and nothing they asked for is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from unittest.mock import patch

from valkey.asyncio import Valkey

from distributor.bridge.agent_watch import AgentWatch
from distributor.errors import Unavailable
from distributor.store import event_log
from distributor.store.command_reader import ValkeyCommandReader
from tests.support.dashboard_client import DashboardClient
from tests.support.running_bridge import RunningBridge, running_bridge
from tests.support.running_server import RunningServer
from tests.support.waiting import PATIENCE_SECONDS, until

ALL = {"agents": ["*"], "commands": ["*"]}


def last_position(dashboard: DashboardClient) -> str:
    return str([message["position"] for message in dashboard.messages if message.get("position")][-1])


@contextmanager
def one_failed_read() -> Iterator[None]:
    """The next read of states fails, and those after it do not."""
    real, failures = ValkeyCommandReader.states, [Unavailable("Valkey is away")]

    async def states(self: ValkeyCommandReader, command_ids: Sequence[str]) -> Any:
        if failures:
            raise failures.pop()
        return await real(self, command_ids)

    with patch.object(ValkeyCommandReader, "states", states):
        yield
        assert not failures


async def test_a_store_emptied_under_a_tail_that_goes_on(server: RunningServer, valkey_url: str) -> None:
    with patch.object(event_log, "SECONDS_BETWEEN_CHECKS", 0.0):
        async with running_bridge(server) as bridge, bridge.dashboard(subscribe=ALL) as dashboard:
            await dashboard.first("command:status", commandId=await server.queue("nobody"))
            async with Valkey.from_url(valkey_url) as valkey:
                await valkey.flushall()
            command_id = await server.queue("nobody")
            await dashboard.first("resync", reason="interrupted")
            await dashboard.first("command:status", commandId=command_id)


async def test_resume_in_a_store_that_was_emptied_and_filled_again(
    server: RunningServer, bridge: RunningBridge, valkey_url: str
) -> None:
    async with bridge.dashboard(subscribe=ALL) as before:
        await before.first("command:status", commandId=await server.queue("nobody"))
    async with Valkey.from_url(valkey_url) as valkey:
        await valkey.flushall()
    filled = [await server.queue("nobody") for _ in range(3)]
    async with bridge.dashboard(subscribe=ALL) as fresh:
        await until(lambda: bridge.process.parts.hub.delivered_until > last_position(before))
        assert fresh.of("connected")
    async with bridge.dashboard(subscribe=ALL, resume=last_position(before)) as after:
        resync = await after.first("resync", reason="trimmed")
    assert after.of("connected")[0]["resumed"] is False
    assert {command["commandId"] for command in resync["commands"]} == set(filled)


async def test_the_first_position_of_an_empty_store_can_be_resumed(
    server: RunningServer, bridge: RunningBridge
) -> None:
    command_id = await server.queue("nobody")
    async with bridge.dashboard(subscribe=ALL) as dashboard:
        await until(lambda: bridge.process.parts.hub.delivered_until != "0-0")
        assert dashboard.of("connected")
    async with bridge.dashboard(subscribe=ALL, resume="0-0") as after:
        await after.first("command:status", commandId=command_id)
    assert after.of("connected")[0]["resumed"] is True


async def test_a_store_away_right_after_accepting_loses_nothing(server: RunningServer, bridge: RunningBridge) -> None:
    async with server.agent() as agent, bridge.dashboard() as dashboard:
        with one_failed_read():
            command_id = await dashboard.request("agent123", commandType="PING", requestId="1")
            await dashboard.first("resync", reason="interrupted")
        (assignment,) = await agent.assigned()
        await agent.print(assignment, b"hello", 0)
        await agent.finish(assignment)
        await dashboard.first("command:result", commandId=command_id)
        assert dashboard.output(command_id) == b"hello"
        assert not dashboard.of("error")


async def test_a_subscription_that_fails_is_none(server: RunningServer, bridge: RunningBridge) -> None:
    first, second = await server.queue("nobody"), await server.queue("nobody")
    async with bridge.dashboard(subscribe={"commands": [first]}) as dashboard:
        with one_failed_read():
            refused = await dashboard.refused(
                "subscribe", output=[{"commandId": first}, {"commandId": second}], agents=["a"], commandsOf=["a"]
            )
        (connected,) = bridge.process.parts.hub.dashboards
        subscriptions = bridge.process.parts.hub.subscriptions
        assert subscriptions.commands(connected) == {first}
        assert subscriptions.count(connected) == 1
    assert refused["code"] == "UNAVAILABLE"


async def test_a_loop_that_loses_its_cancel_does_not_keep_the_bridge_from_stopping(server: RunningServer) -> None:
    async def deaf_to_the_first_cancel(_: AgentWatch) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    with patch.object(AgentWatch, "run", deaf_to_the_first_cancel):
        async with asyncio.timeout(PATIENCE_SECONDS), running_bridge(server) as bridge, bridge.dashboard() as dashboard:
            await dashboard.settled()
