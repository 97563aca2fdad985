"""What a dashboard is sent about a server, a Valkey or an agent that is gone."""

from __future__ import annotations

from typing import Any

import pytest

from distributor.bridge.backend_status import Backend
from tests.support.dashboard_client import DashboardClient
from tests.support.running_bridge import RunningBridge, running_bridge
from tests.support.running_server import RunningServer, running_server
from tests.support.wire_agent import running, wire_agent


async def _until_status(dashboard: DashboardClient, backend: str, available: bool) -> dict[str, Any]:
    def sent() -> bool:
        latest = dashboard.of("bridge:status")[-1:]
        return bool(latest) and latest[0][backend]["available"] is available

    await dashboard.until(sent)
    status: dict[str, Any] = dashboard.of("bridge:status")[-1][backend]
    return status


async def test_a_server_that_cannot_be_reached_is_reported_on_connect(server: RunningServer) -> None:
    async with running_bridge(server, server="127.0.0.1:1") as bridge:
        async with bridge.dashboard() as first:
            status = await _until_status(first, "server", available=False)
        async with bridge.dashboard() as second:
            again = await second.first("bridge:status")
    assert [message["type"] for message in second.messages[:2]] == ["connected", "bridge:status"]
    assert status["message"]
    assert again["server"]["since"] == status["since"], "since it was lost, not since the dashboard connected"
    assert again["valkey"] == {"available": True, "since": again["valkey"]["since"], "message": None}


async def test_a_server_that_stops_and_returns_is_reported(valkey_url: str) -> None:
    async with running_server(valkey_url) as server:
        address = server.address
        async with running_bridge(server, server_check_interval=0.02) as bridge, bridge.dashboard() as dashboard:
            await _until_status(dashboard, "server", available=True)
            await server.process.stop()
            gone = await _until_status(dashboard, "server", available=False)
            assert gone["message"]
            async with running_server(valkey_url, listen=address):
                await _until_status(dashboard, "server", available=True)


@pytest.mark.parametrize("subscribe", [{"commands": ["*"]}, {"commandsOf": ["agent123"]}, "its id"])
async def test_a_running_command_whose_agent_is_gone_says_so(
    server: RunningServer, bridge: RunningBridge, subscribe: Any
) -> None:
    async with server.agent() as agent:
        command_id = await server.queue()
        (assignment,) = await agent.assigned()
        await agent.start(assignment)
        wanted = {"commands": [command_id]} if subscribe == "its id" else subscribe
        async with bridge.dashboard(subscribe=wanted) as dashboard:
            if "commandsOf" in wanted:
                await dashboard.say("subscribe", commands=[command_id])
                await dashboard.first("command:status", commandId=command_id)
            await dashboard.settled()
            await agent.vanish()
            await dashboard.until(lambda: bool(_away(dashboard, command_id)))
            since = _away(dashboard, command_id)[0]
            async with bridge.stranger() as newcomer:
                shown = (await newcomer.connect(bridge.token()))["commands"]
                assert [command["agentAwaySince"] for command in shown] == [since]
            page = (await bridge.get(f"/api/commands/{command_id}")).json()
            assert page["command"]["agentAwaySince"] == since
            async with wire_agent(server.address, running=[running(assignment)]):
                await dashboard.until(lambda: _latest(dashboard, command_id)["agentAwaySince"] is None)
                assert _latest(dashboard, command_id)["status"] == "assigned"


async def test_a_command_that_ends_while_its_agent_is_gone_has_lost_the_mark(
    server: RunningServer, bridge: RunningBridge
) -> None:
    async with server.agent() as agent, bridge.dashboard(subscribe={"commands": ["*"]}) as dashboard:
        command_id = await server.queue()
        (assignment,) = await agent.assigned()
        await agent.start(assignment)
        await dashboard.first("command:status", commandId=command_id)
        await agent.vanish()
        await dashboard.until(lambda: bool(_away(dashboard, command_id)))
        async with wire_agent(server.address, running=[running(assignment)]) as returned:
            await returned.finish(assignment)
            await dashboard.first("command:result", commandId=command_id)
        assert _latest(dashboard, command_id)["agentAwaySince"] is None
        assert not bridge.process.parts.hub.running_agents


def test_a_backend_reports_changes_only() -> None:
    changes: list[str | None] = []
    backend = Backend(lambda: changes.append(backend.fault), "not checked yet")
    backend.failed("refused")
    assert changes == []
    backend.succeeded()
    backend.succeeded()
    backend.failed("refused")
    since = backend.availability.since_ms
    backend.failed("timed out")
    assert changes == [None, "refused"]
    assert (backend.fault, backend.availability.since_ms) == ("timed out", since)


def _latest(dashboard: DashboardClient, command_id: str) -> dict[str, Any]:
    command: dict[str, Any] = dashboard.of("command:status", commandId=command_id)[-1]["command"]
    return command


def _away(dashboard: DashboardClient, command_id: str) -> list[str]:
    statuses = dashboard.of("command:status", commandId=command_id)
    return [message["command"]["agentAwaySince"] for message in statuses if message["command"]["agentAwaySince"]]
