from __future__ import annotations

import asyncio
from typing import Any

from distributor.bridge import agent_watch
from tests.support.dashboard_client import DashboardClient
from tests.support.running_bridge import RunningBridge, running_bridge
from tests.support.running_server import RunningServer
from tests.support.waiting import eventually, until

UNKNOWN_ID = "01999bd2-6f0e-7c41-9f4a-8d2c1f0a7b33"


async def test_who_did_not_ask_is_told_nothing(server: RunningServer, bridge: RunningBridge) -> None:
    async with server.agent() as agent, bridge.dashboard(subscribe={}) as quiet, bridge.dashboard() as requester:
        command_id = await requester.request("agent123", commandType="PING")
        await agent.finish(*await agent.assigned())
        await requester.first("command:result", commandId=command_id)
        await quiet.settled()
    assert set(quiet.types()) == {"connected", "bridge:status", "pong"}


async def test_one_command_is_followed_by_several(server: RunningServer, bridge: RunningBridge) -> None:
    async with server.agent() as agent, bridge.dashboard() as first, bridge.dashboard() as second:
        command_id = await server.queue()
        for dashboard in (first, second):
            await dashboard.say("subscribe", commands=[command_id])
            await dashboard.first("command:status", commandId=command_id)
        await agent.finish(*await agent.assigned(), exit_code=0)
        for dashboard in (first, second):
            await dashboard.first("command:result", commandId=command_id)
            assert not dashboard.of("terminal:output")


async def test_all_commands_and_those_of_an_agent(server: RunningServer, bridge: RunningBridge) -> None:
    async with (
        server.agent("one") as one,
        server.agent("two") as two,
        bridge.dashboard(subscribe={"commands": ["*"]}) as of_all,
        bridge.dashboard(subscribe={"commandsOf": ["one"]}) as of_one,
    ):
        ids = [await server.queue("one"), await server.queue("two")]
        await one.finish(*await one.assigned())
        await two.finish(*await two.assigned())
        for command_id in ids:
            await of_all.first("command:result", commandId=command_id)
        await of_one.first("command:result", commandId=ids[0])
        assert of_all.statuses(ids[1]) == ["queued", "assigned", "completed"]
        assert not of_one.of("command:status", commandId=ids[1])
        await of_one.say("unsubscribe", commandsOf=["one"])
        await of_all.say("unsubscribe", commands=["*"])
        await of_one.settled()
        await of_all.settled()
        heard = len(of_all.messages), len(of_one.messages)
        await one.finish((await one.assigned(len([await server.queue("one")]) + 1))[1])
        await of_one.settled()
        await of_all.settled()
    assert (len(of_all.messages), len(of_one.messages)) == (heard[0] + 1, heard[1] + 1)


async def test_subscribing_to_all_begins_with_everything(server: RunningServer, bridge: RunningBridge) -> None:
    command_id = await server.queue("nobody")
    async with server.agent(), bridge.dashboard() as dashboard:
        await dashboard.say("subscribe", agents=["*"], commands=["*"])
        resync = await dashboard.first("resync")
    assert resync["reason"] == "subscribed"
    assert [agent["agentId"] for agent in resync["agents"]] == ["agent123"]
    assert [command["commandId"] for command in resync["commands"]] == [command_id]


async def test_a_command_that_ended_is_told_at_once_and_once(server: RunningServer, bridge: RunningBridge) -> None:
    async with server.agent() as agent:
        command_id = await server.queue()
        await agent.finish(*await agent.assigned(), exit_code=3)
        await server.result(command_id)
    async with bridge.dashboard(subscribe={"commands": [command_id]}) as dashboard:
        result = await dashboard.first("command:result", commandId=command_id)
        await dashboard.settled()
    assert result["result"]["exitCode"] == 3
    assert len(dashboard.of("command:status", "command:result")) == 2


async def test_what_is_not_known_is_said(server: RunningServer, bridge: RunningBridge) -> None:
    known = await server.queue("nobody")
    async with bridge.dashboard() as dashboard:
        await dashboard.say("subscribe", output=[{"commandId": UNKNOWN_ID}, {"commandId": known}])
        error = await dashboard.first("error", commandId=UNKNOWN_ID)
        await dashboard.first("command:status", commandId=known)
    assert (error["code"], error["reason"]) == ("NOT_FOUND", "UNKNOWN_COMMAND")


async def test_more_subscriptions_than_the_limit(server: RunningServer, bridge: RunningBridge) -> None:
    agents = [f"agent-{number}" for number in range(1_000)]
    async with bridge.dashboard() as dashboard:
        await dashboard.say("subscribe", agents=agents)
        error = await dashboard.refused("subscribe", agents=["one-more"])
        assert (error["code"], error["reason"]) == ("RESOURCE_EXHAUSTED", "TOO_MANY_SUBSCRIPTIONS")
        dashboard.messages.clear()
        refused = await dashboard.refused("command:request", agentId="nobody", commandType="PING")
        assert refused["code"] == "RESOURCE_EXHAUSTED"
        assert (await bridge.get("/api/commands")).json()["commands"] == [], "nothing was queued"
        await dashboard.say("unsubscribe", agents=agents)
        await dashboard.request("nobody", commandType="PING", offline="queue")


async def test_all_that_a_connection_owned_goes_with_it(server: RunningServer, bridge: RunningBridge) -> None:
    command_id = await server.queue("nobody")
    output = [{"commandId": command_id}]
    everything = {"agents": ["*", "a"], "commands": ["*", command_id], "commandsOf": ["b"], "output": output}
    async with bridge.dashboard(subscribe=everything) as dashboard:
        await dashboard.first("command:status", commandId=command_id)
        hub = bridge.process.parts.hub
        assert len(hub.subscriptions) == 3
    await until(lambda: not hub.dashboards)
    assert len(hub.subscriptions) == 0
    assert not hub.subscriptions.watchers_of_command(command_id, "nobody")
    assert not hub.subscriptions.watchers_of_agent("a")


async def test_agents_come_get_busy_and_go(server: RunningServer, bridge: RunningBridge) -> None:
    async with bridge.dashboard(subscribe={"agents": ["*"]}) as dashboard:
        async with server.agent(capacity=1) as agent:
            await _until_agent(dashboard, "online", running=0)
            await server.queue()
            await agent.assigned()
            await _until_agent(dashboard, "busy", running=1)
            await agent.finish(*agent.assignments)
            await _until_agent(dashboard, "online", running=0)
            await agent.leave()
        gone = await _until_agent(dashboard, "offline", running=0)
        assert gone["agent"]["awaySince"]
        await dashboard.say("unsubscribe", agents=["*"])
        await dashboard.settled()
        heard = len(dashboard.messages)
        async with server.agent():
            await asyncio.sleep(2 * agent_watch.TIMES.after_event)
        await dashboard.settled()
        assert len(dashboard.messages) == heard + 1


async def test_a_newcomer_hides_no_change_from_anybody(server: RunningServer, bridge: RunningBridge) -> None:
    """What was told last, to dashboards that are gone by now, is no measure of what has changed."""
    async with server.agent(capacity=1) as agent:
        async with bridge.dashboard(subscribe={"agents": ["*"]}) as before:
            await server.queue()
            await agent.assigned()
            await _until_agent(before, "busy", running=1)
        await agent.finish(*agent.assignments)
        async with bridge.stranger() as after:
            connected = await after.connect(bridge.token(), subscribe={"agents": ["*"]})
            assert connected["agents"][0]["status"] == "online"
            await server.queue()
            await _until_agent(after, "busy", running=1)


async def test_proof_of_life_is_told_now_and_then(server: RunningServer) -> None:
    async with (
        running_bridge(server, agent_sweep=0.05) as bridge,
        server.agent() as agent,
        bridge.dashboard(subscribe={"agents": ["agent123"]}) as dashboard,
    ):

        async def seen_anew() -> bool:
            await agent.heartbeat()
            return any("agent123" in message["seen"] for message in dashboard.of("agents:seen"))

        await eventually(seen_anew)


async def _until_agent(dashboard: DashboardClient, status: str, running: int) -> dict[str, Any]:
    """The latest word on the agent, once it is so."""

    def told() -> bool:
        latest = dashboard.of("agent:status")[-1:]
        return bool(latest) and (latest[0]["status"], latest[0]["agent"]["running"]) == (status, running)

    await dashboard.until(told)
    return dashboard.of("agent:status")[-1]
