from __future__ import annotations

from contextlib import AsyncExitStack
from unittest.mock import patch

import pytest
from valkey.asyncio import Valkey

from distributor.errors import Unavailable
from distributor.store.command_reader import ValkeyCommandReader
from tests.support.dashboard_client import DashboardClient
from tests.support.running_bridge import RunningBridge, running_bridge
from tests.support.running_server import RunningServer

ALL = {"agents": ["*"], "commands": ["*"]}


def last_position(dashboard: DashboardClient) -> str:
    return str([message["position"] for message in dashboard.messages if message.get("position")][-1])


async def test_resume_tells_what_was_missed_and_only_that(server: RunningServer, bridge: RunningBridge) -> None:
    async with server.agent() as agent:
        async with bridge.dashboard(subscribe=ALL) as before:
            first = await server.queue()
            await agent.finish(*await agent.assigned())
            await before.first("command:result", commandId=first)
        missed = [await server.queue() for _ in range(3)]
        await agent.finish(*(await agent.assigned(4))[1:])
        await server.result(missed[-1])
        async with bridge.stranger() as after:
            connected = await after.connect(bridge.token(), subscribe=ALL, resume=last_position(before))
            await after.until(lambda: len(after.of("command:result")) == 3)
            live = await server.queue()
            await after.first("command:status", commandId=live)
    assert connected["resumed"] is True
    assert "commands" not in connected
    assert [agent["agentId"] for agent in connected["agents"]] == ["agent123"]
    for command_id in missed:
        assert after.statuses(command_id) == ["queued", "assigned", "completed"]
    assert not after.of("command:status", commandId=first)
    assert not after.of("resync")


async def test_who_heard_some_of_a_batch_can_resume_and_hear_the_rest(
    server: RunningServer, bridge: RunningBridge
) -> None:
    """Commands queued together are one event; its position comes with the last of them only."""
    async with bridge.dashboard(subscribe=ALL) as before:
        # After this, the bridge is at a position of this store, and not of the one that was emptied for this test.
        await before.first("command:status", commandId=await server.queue("nobody"))
        ids = await server.queue_many(5, "nobody")
        await before.first("command:status", commandId=ids[-1])
    heard = before.of("command:status")[1]
    async with bridge.dashboard(subscribe=ALL, resume=heard["position"]) as after:
        await after.settled()
        assert {message["commandId"] for message in after.of("command:status")} >= set(ids) - {heard["commandId"]}
        assert after.of("connected")[0]["resumed"] is True


async def test_resume_at_another_bridge_goes_on_with_output(server: RunningServer) -> None:
    async with server.agent() as agent, running_bridge(server) as there:
        async with running_bridge(server) as here, here.dashboard() as before:
            command_id = await before.request("agent123", commandType="PING")
            (assignment,) = await agent.assigned()
            await agent.start(assignment)
            await agent.print(assignment, b"before ", 0)
            await before.first("terminal:output")
        assert before.closed is not None
        await agent.print(assignment, b"meanwhile ", 7)
        wanted = {"output": [{"commandId": command_id, "offset": 7}]}
        async with there.dashboard(subscribe=wanted, resume=last_position(before)) as after:
            await after.first("terminal:output")
            await agent.print(assignment, b"after", 17)
            await agent.finish(assignment)
            await after.first("command:result", commandId=command_id)
            assert after.output(command_id, 7) == b"meanwhile after"
            assert after.types()[-1] == "command:result"


async def test_a_bridge_that_restarts_tells_that_it_goes_and_loses_nothing(server: RunningServer, port: int) -> None:
    address = f"127.0.0.1:{port}"
    async with server.agent() as agent, AsyncExitStack() as stack:
        bridge = await stack.enter_async_context(running_bridge(server, listen=address))
        async with bridge.stranger() as before:
            await before.connect(bridge.token(), subscribe=ALL)
            command_id = await server.queue()
            await before.first("command:status", commandId=command_id)
            await stack.aclose()
            assert (await before.until_closed())[0] == 1012
        await agent.finish(*await agent.assigned())
        await server.result(command_id)
        async with (
            running_bridge(server, listen=address) as again,
            again.dashboard(subscribe=ALL, resume=last_position(before)) as after,
        ):
            await after.first("command:result", commandId=command_id)
    assert not after.of("resync")


@pytest.mark.parametrize(
    ("position", "reason"), [("", "malformed"), ("yesterday", "malformed"), ("99999999999999-0", "unknown")]
)
async def test_a_position_that_is_none(bridge: RunningBridge, position: str, reason: str) -> None:
    async with bridge.stranger() as dashboard:
        connected = await dashboard.connect(bridge.token(), subscribe=ALL, resume=position)
        resync = await dashboard.first("resync")
    assert connected["resumed"] is False
    assert resync["reason"] == reason


async def test_events_that_are_gone_mean_a_fresh_snapshot(
    server: RunningServer, bridge: RunningBridge, valkey_url: str
) -> None:
    async with bridge.dashboard(subscribe=ALL) as before:
        await server.queue("nobody")
        await before.first("command:status")
    missed = await server.queue("nobody")
    async with Valkey.from_url(valkey_url) as valkey:
        await valkey.xtrim("events", maxlen=1, approximate=False)
        await server.queue("nobody")
        await valkey.xtrim("events", maxlen=1, approximate=False)
    async with bridge.dashboard(subscribe=ALL, resume=last_position(before)) as after:
        resync = await after.first("resync")
    assert resync["reason"] == "trimmed"
    assert missed in [command["commandId"] for command in resync["commands"]]


async def test_a_store_that_begins_anew_is_told_to_who_is_connected(
    server: RunningServer, bridge: RunningBridge, valkey_url: str
) -> None:
    async with bridge.dashboard(subscribe=ALL) as dashboard:
        await server.queue("nobody")
        await dashboard.first("command:status")
        async with Valkey.from_url(valkey_url) as valkey:
            await valkey.flushall()
            # A tail that waits is cut, as by a Valkey that went away.
            await valkey.client_kill_filter(_type="normal", skipme=True)
        await dashboard.first("resync", reason="interrupted")
        command_id = await server.queue("nobody")
        await dashboard.first("command:status", commandId=command_id)


async def test_without_a_store_a_dashboard_is_asked_to_come_back(bridge: RunningBridge) -> None:
    with patch.object(ValkeyCommandReader, "page", side_effect=Unavailable("Valkey is away: " + "€" * 100)):
        async with bridge.stranger() as dashboard:
            await dashboard.say("dashboard:connect", token=bridge.token())
            code, reason = await dashboard.until_closed()
    assert code == 1013
    assert reason.startswith("Valkey is away: €")


async def test_two_bridges_show_the_same(server: RunningServer) -> None:
    async with (
        server.agent() as agent,
        running_bridge(server) as one,
        running_bridge(server) as two,
        one.dashboard(subscribe=ALL) as here,
        two.dashboard(subscribe=ALL) as there,
    ):
        command_id = await here.request("agent123", commandType="PING")
        await there.say("subscribe", output=[{"commandId": command_id}])
        (assignment,) = await agent.assigned()
        await agent.print(assignment, b"both see it", 0)
        await agent.finish(assignment)
        for dashboard in (here, there):
            await dashboard.first("command:result", commandId=command_id)
            assert dashboard.output(command_id) == b"both see it"
            assert dashboard.statuses(command_id)[-1] == "completed"
