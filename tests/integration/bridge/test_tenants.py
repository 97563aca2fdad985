"""Two tenants at one bridge: what belongs to one does not exist for the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Final, NamedTuple

import pytest

from distributor.identity.caller import CallerKind
from tests.support.dashboard_client import DashboardClient
from tests.support.running_bridge import TOKEN_KEY, RunningBridge, running_bridge, token_of
from tests.support.running_server import RunningServer, running_server
from tests.support.wire_agent import WireAgent, running

UNKNOWN_ID: Final = "01999bd2-6f0e-7c41-9f4a-8d2c1f0a7b33"
ALL: Final = {"agents": ["*"], "commands": ["*"]}
AGENTS: Final = {"red-1": {"team": "red"}, "blue-1": {"team": "blue"}}


class Tenants(NamedTuple):
    """A bridge with two tenants, rosa by the label of her agent and bert by its id, and an admin."""

    server: RunningServer
    bridge: RunningBridge
    agents: dict[str, WireAgent]
    admin: str
    rosa: str
    bert: str


@pytest.fixture(params=["off", "on"], ids=lambda word: f"authentication of the server {word}")
async def tenants(valkey_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Tenants]:
    """A bridge narrows what it shows whether or not its server knows its callers."""
    on = request.param == "on"
    async with AsyncExitStack() as stack:
        key = {"token_key": TOKEN_KEY} if on else {}
        server = await stack.enter_async_context(running_server(valkey_url, **key))
        own: dict[str, Any] = {"server_token": token_of(server.settings, "delegate", subject="bridge")} if on else {}
        bridge = await stack.enter_async_context(running_bridge(server, agent_sweep=0.2, **own))
        agents: dict[str, WireAgent] = {}
        for agent_id, labels in AGENTS.items():
            token = token_of(bridge.settings, subject=agent_id, kind=CallerKind.AGENT)
            credentials = [("authorization", f"Bearer {token}")] if on else []
            agent = server.agent(agent_id, labels=labels, credentials=credentials)
            agents[agent_id] = await stack.enter_async_context(agent)
        yield Tenants(
            server,
            bridge,
            agents,
            bridge.token("admin", subject="ada"),
            bridge.token("operator", subject="rosa", labels=["team=red"]),
            bridge.token("operator", subject="bert", agents=["blue-*"]),
        )


async def opened(stack: AsyncExitStack, tenants: Tenants, token: str, **fields: Any) -> DashboardClient:
    """A connected dashboard of that user."""
    dashboard = await stack.enter_async_context(tenants.bridge.stranger())
    await dashboard.connect(token, **fields)
    return dashboard


async def ended(tenants: Tenants, dashboard: DashboardClient, agent_id: str) -> str:
    """A command of that agent with output and a result."""
    command_id = await dashboard.request(agent_id, commandType="PRINT")
    agent = tenants.agents[agent_id]
    (assignment,) = [one for one in await agent.assigned() if one.command.command_id == command_id]
    await agent.start(assignment)
    await agent.print(assignment, f"secret of {agent_id}".encode(), 0)
    await agent.finish(assignment)
    await dashboard.first("command:result", commandId=command_id)
    return command_id


def heard(dashboard: DashboardClient, *words: str) -> list[str]:
    """The types of messages that contain any of these words."""
    return [message["type"] for message in dashboard.messages if any(word in str(message) for word in words)]


async def test_each_sees_its_own_and_nothing_of_the_other(tenants: Tenants) -> None:
    async with AsyncExitStack() as stack:
        rosa, bert, ada = [
            await opened(stack, tenants, token, subscribe=ALL) for token in (tenants.rosa, tenants.bert, tenants.admin)
        ]
        red, blue = await ended(tenants, ada, "red-1"), await ended(tenants, ada, "blue-1")
        await rosa.first("command:result", commandId=red)
        await bert.first("command:result", commandId=blue)
        for dashboard in (rosa, bert):
            await dashboard.settled()
        assert not heard(rosa, "blue", blue)
        assert not heard(bert, "red", red)
        again = await opened(stack, tenants, tenants.rosa, subscribe=ALL)
        assert [agent["agentId"] for agent in again.of("connected")[0]["agents"]] == ["red-1"]
        assert [command["commandId"] for command in again.of("connected")[0]["commands"]] == [red]


async def test_what_happened_meanwhile_is_replayed_without_the_others(tenants: Tenants) -> None:
    async with AsyncExitStack() as stack:
        ada = await opened(stack, tenants, tenants.admin)
        position = ada.of("connected")[0]["position"]
        red, blue = await ended(tenants, ada, "red-1"), await ended(tenants, ada, "blue-1")
        for token, mine, other in ((tenants.rosa, red, blue), (tenants.bert, blue, red)):
            dashboard = await opened(stack, tenants, token, subscribe=ALL, resume=position)
            await dashboard.first("command:result", commandId=mine)
            await dashboard.settled()
            assert not heard(dashboard, other)


@pytest.mark.parametrize("wanted", ["commands", "output"])
async def test_a_command_of_the_other_is_as_unknown_as_one_that_never_was(tenants: Tenants, wanted: str) -> None:
    async with AsyncExitStack() as stack:
        blue = await ended(tenants, await opened(stack, tenants, tenants.admin), "blue-1")
        rosa = await opened(stack, tenants, tenants.rosa)
        answers: list[str] = []
        for command_id in (blue, UNKNOWN_ID):
            named: Any = command_id if wanted == "commands" else {"commandId": command_id}
            await rosa.say("subscribe", **{wanted: [named]})
            await rosa.settled()
            (error,) = rosa.of("error", commandId=command_id)
            answers.append(str(error).replace(command_id, "ID"))
        connecting = await opened(stack, tenants, tenants.rosa, subscribe={"output": [{"commandId": blue}]})
        await connecting.first("error", commandId=blue)
        assert not heard(rosa, "secret") + heard(connecting, "secret")
        assert answers[0] == answers[1]


async def test_output_ends_when_its_agent_leaves_the_grants(tenants: Tenants) -> None:
    token = token_of(tenants.bridge.settings, subject="red-1", kind=CallerKind.AGENT)
    credentials = [("authorization", f"Bearer {token}")] if tenants.server.settings.authenticates else []
    async with AsyncExitStack() as stack:
        ada, rosa = [await opened(stack, tenants, token) for token in (tenants.admin, tenants.rosa)]
        command_id = await ada.request("red-1", commandType="PRINT")
        (assignment,) = await tenants.agents["red-1"].assigned()
        await tenants.agents["red-1"].start(assignment)
        for dashboard in (ada, rosa):
            await dashboard.say("subscribe", output=[{"commandId": command_id}])
            await dashboard.settled()
        said = b""
        for labels, piece in (({"team": "red", "rack": "2"}, b"before"), ({"team": "blue"}, b"after")):
            held = [running(assignment, len(said))]
            fields: dict[str, Any] = {"labels": labels, "running": held, "credentials": credentials}
            agent = await stack.enter_async_context(tenants.server.agent("red-1", **fields))
            if piece == b"after":
                await rosa.first("error", commandId=command_id, reason="UNKNOWN_COMMAND")
            await agent.print(assignment, piece, len(said))
            said += piece
            await ada.until(lambda: ada.output(command_id) == said)  # noqa: B023 - called before it changes
            if piece == b"before":
                await rosa.until(lambda: rosa.output(command_id) == b"before")
        await rosa.settled()
        assert rosa.output(command_id) == b"before"


async def test_changes_of_what_is_not_seen_are_refused_alike(tenants: Tenants) -> None:
    async with AsyncExitStack() as stack:
        blue = await ended(tenants, await opened(stack, tenants, tenants.admin), "blue-1")
        rosa = await opened(stack, tenants, tenants.rosa)
        for type_ in ("command:interrupt", "command:retry"):
            answers: list[str] = []
            for command_id in (blue, UNKNOWN_ID):
                await rosa.say(type_, commandId=command_id, requestId=f"{type_} {command_id}")
                error = await rosa.first("error", requestId=f"{type_} {command_id}")
                answers.append(str(error).replace(command_id, "ID"))
            assert answers[0] == answers[1]
        answers = []
        for agent_id in ("blue-1", "nobody"):
            await rosa.say("command:request", agentId=agent_id, commandType="PRINT", requestId=agent_id)
            error = await rosa.first("error", requestId=agent_id)
            assert (error["code"], error["reason"]) == ("PERMISSION_DENIED", "NOT_GRANTED")
            answers.append(str(error).replace(agent_id, "ID"))
        assert answers[0] == answers[1]
        assert await rosa.request("red-1", commandType="PRINT")


async def test_the_api_shows_each_its_own(tenants: Tenants) -> None:
    async with AsyncExitStack() as stack:
        ada = await opened(stack, tenants, tenants.admin)
        red, blue = await ended(tenants, ada, "red-1"), await ended(tenants, ada, "blue-1")
    get = tenants.bridge.get
    for token, mine, other, agent_id in (
        (tenants.rosa, red, blue, "red-1"),
        (tenants.bert, blue, red, "blue-1"),
    ):
        page = (await get("/api/commands?pageSize=1", token)).json()
        assert [command["commandId"] for command in page["commands"]] == [mine]
        if page["nextPageToken"]:
            rest = (await get(f"/api/commands?pageToken={page['nextPageToken']}", token)).json()
            assert (rest["commands"], rest["nextPageToken"]) == ([], "")
        assert [agent["agentId"] for agent in (await get("/api/agents", token)).json()["agents"]] == [agent_id]
        assert (await get(f"/api/commands/{mine}", token)).json()["result"]["status"] == "completed"
        assert (await get(f"/api/commands/{mine}/output", token)).body == f"secret of {agent_id}".encode()
        for path in ("", "/output"):
            hidden, unknown = [await get(f"/api/commands/{one}{path}", token) for one in (other, UNKNOWN_ID)]
            assert hidden.status == unknown.status == 404
            assert hidden.body.replace(other.encode(), b"ID") == unknown.body.replace(UNKNOWN_ID.encode(), b"ID")
        others = {"red-1", "blue-1"} - {agent_id}
        assert (await get(f"/api/commands?agent={others.pop()}", token)).json()["commands"] == []


async def test_metrics_are_for_those_who_may_see_everything(tenants: Tenants) -> None:
    for token, status in ((tenants.admin, 200), (tenants.rosa, 403), (None, 401), ("not a token", 401)):
        assert (await tenants.bridge.get("/metrics", token)).status == status


async def test_who_queued_a_command_is_the_user_for_whom_the_bridge_asked(tenants: Tenants) -> None:
    async with AsyncExitStack() as stack:
        rosa = await opened(stack, tenants, tenants.rosa)
        command_id = await rosa.request("red-1", commandType="PRINT")
        asked = (await tenants.bridge.get(f"/api/commands/{command_id}", tenants.admin)).json()["command"]
    if not tenants.server.settings.authenticates:
        assert asked["requestedBy"] is None
        return
    assert asked["requestedBy"] == {
        "kind": "service",
        "subject": "bridge",
        "onBehalfOf": "rosa",
        "address": "127.0.0.1",
    }
