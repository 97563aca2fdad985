"""Commands that end while a dashboard is told how things are: told once, after the output, whatever comes first."""

from __future__ import annotations

from collections.abc import Sequence
from unittest.mock import patch

import pytest

from distributor.bridge.agent_watch import AgentWatch
from distributor.bridge.dashboard import Change, Dashboard
from distributor.bridge.store_view import StoreView
from distributor.identity.caller import Caller
from distributor.model.agent import AgentInfo
from tests.support.dashboard_client import DashboardClient
from tests.support.running_bridge import RunningBridge
from tests.support.running_server import RunningServer
from tests.support.waiting import until

ALL = {"agents": ["*"], "commands": ["*"]}


async def relayed(server: RunningServer, bridge: RunningBridge, command_id: str) -> None:
    """The bridge has told of everything up to how this command ended."""
    finished = (await server.result(command_id)).finish_time.ToMilliseconds()
    await until(lambda: int(bridge.process.parts.hub.delivered_until.partition("-")[0]) >= finished)


def told_of(dashboard: DashboardClient, command_id: str) -> list[str]:
    """The messages about one command, in short."""
    return [
        message.get("data") or message.get("command", {}).get("status") or message["type"]
        for message in dashboard.messages
        if message.get("commandId") == command_id
    ]


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("output", [True, False])
async def test_while_a_dashboard_connects(
    server: RunningServer, bridge: RunningBridge, resume: bool, output: bool
) -> None:
    async with server.agent() as agent:
        async with bridge.dashboard(subscribe=ALL) as before:
            command_id = await server.queue()
            (assignment,) = await agent.assigned()
            await agent.start(assignment)
            offset = await agent.print(assignment, b"0123456789", 0)
            await before.first("command:status", commandId=await server.queue("nobody"))
            position = before.of("command:status")[-1]["position"]
        real = StoreView.snapshot_agents

        async def shown(self: StoreView, caller: Caller) -> list[AgentInfo]:
            agents = await real(self, caller)
            await agent.print(assignment, b"end", offset)
            await agent.finish(assignment)
            await relayed(server, bridge, command_id)
            return agents

        named = {"output": [{"commandId": command_id}]} if output else {"commands": [command_id]}
        with patch.object(StoreView, "snapshot_agents", shown):
            async with bridge.dashboard(
                subscribe=ALL | ({"commands": ["*", command_id]} if not output else named),
                **({"resume": position} if resume else {}),
            ) as after:
                await after.first("command:result", commandId=command_id)
                await after.first("command:status", commandId=await server.queue("nobody"))
    ending = ["completed", "command:result"]
    assert told_of(after, command_id) == (["0123456789", "end", *ending] if output else ending)


async def test_while_a_dashboard_subscribes(server: RunningServer, bridge: RunningBridge) -> None:
    async with server.agent() as agent:
        command_id = await server.queue()
        (assignment,) = await agent.assigned()
        await agent.start(assignment)
        await agent.print(assignment, b"0123456789", 0)
        real = AgentWatch.send_current

        async def send_current(self: AgentWatch, dashboard: Dashboard, agent_ids: Sequence[str]) -> None:
            await real(self, dashboard, agent_ids)
            await agent.finish(assignment)
            await relayed(server, bridge, command_id)

        with patch.object(AgentWatch, "send_current", send_current):
            async with bridge.dashboard() as dashboard:
                await dashboard.say("subscribe", agents=["agent123"], output=[{"commandId": command_id}])
                await dashboard.settled()
                await dashboard.first("command:result", commandId=command_id)
                await dashboard.settled()
    assert told_of(dashboard, command_id) == ["0123456789", "completed", "command:result"]


async def test_while_others_of_many_are_read(server: RunningServer, bridge: RunningBridge) -> None:
    async with server.agent() as agent:
        command_id = await server.queue()
        (assignment,) = await agent.assigned()
        await agent.print(assignment, b"0123456789", 0)
        others = [one for number in range(3) for one in await server.queue_many(20, f"nobody-{number}")]
        real = StoreView.read

        async def read(self: StoreView, caller: Caller, command_ids: Sequence[str]) -> list[Change | None]:
            if command_id not in command_ids:
                await agent.finish(assignment)
                await relayed(server, bridge, command_id)
            return await real(self, caller, command_ids)

        output = [{"commandId": one} for one in (*others, command_id)]
        with patch.object(StoreView, "read", read):
            async with bridge.dashboard(subscribe={"output": output}) as dashboard:
                await dashboard.first("command:result", commandId=command_id)
                await dashboard.settled()
    assert told_of(dashboard, command_id) == ["0123456789", "completed", "command:result"]
