from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import patch

import pytest
from google.protobuf.json_format import MessageToDict

from distributor.bridge.event_hub import EventHub
from distributor.model.event import CommandChanged, EventBatch
from distributor.v1 import command_pb2
from tests.support.running_bridge import READ, RunningBridge, running_bridge
from tests.support.running_server import RunningServer

UNKNOWN_ID = "01999bd2-6f0e-7c41-9f4a-8d2c1f0a7b33"


async def test_connected_shows_agents_and_recent_commands(server: RunningServer, bridge: RunningBridge) -> None:
    async with server.agent() as agent:
        ids = [await server.queue() for _ in range(3)]
        await agent.finish(*await agent.assigned(3), exit_code=0)
        async with bridge.stranger() as dashboard:
            connected = await dashboard.connect(bridge.token(), clientInfo={"userAgent": "test"}, unknown="ignored")
    assert [agent["agentId"] for agent in connected["agents"]] == ["agent123"]
    assert connected["agents"][0]["status"] == "online"
    assert [command["commandId"] for command in connected["commands"]] == list(reversed(ids))
    assert {command["exitCode"] for command in connected["commands"]} == {0}
    assert (connected["userId"], connected["resumed"]) == ("alice", False)


async def test_who_requests_gets_status_output_and_result(server: RunningServer, bridge: RunningBridge) -> None:
    async with server.agent() as agent, bridge.dashboard() as dashboard:
        command_id = await dashboard.request("agent123", commandType="EXEC", params={"argv": ["true"]}, priority="high")
        (assignment,) = await agent.assigned(1)
        assert (assignment.command.type, assignment.command.priority) == ("EXEC", 75)
        await agent.start(assignment)
        await agent.print(assignment, b"out\n", 0)
        await agent.print(assignment, b"err\n", 4, stderr=True)
        await agent.finish(assignment, exit_code=0)
        result = await dashboard.first("command:result", commandId=command_id)
    assert dashboard.statuses(command_id)[-2:] == ["assigned", "completed"]
    assert dashboard.output(command_id) == b"out\nerr\n"
    assert [piece["stream"] for piece in dashboard.of("terminal:output")] == ["stdout", "stderr"]
    assert result["result"]["exitCode"] == 0
    last = dashboard.of("command:status", commandId=command_id)[-1]
    assert (last["status"], last["exitCode"]) == ("completed", 0)
    assert None not in last["command"]["receipts"].values()
    told = [message["type"] for message in dashboard.messages if message.get("commandId") == command_id]
    assert told[0] == "command:accepted"
    assert told[-2:] == ["command:status", "command:result"], "the end comes after the output"


async def test_runs_reach_the_agent_and_the_command(server: RunningServer, bridge: RunningBridge) -> None:
    runs = {"maxRuns": 2, "maxRunsByReason": {"exit_nonzero": 5}}
    async with server.agent() as agent, bridge.dashboard() as dashboard:
        command_id = await dashboard.request("agent123", commandType="EXEC", **runs)
        (assignment,) = await agent.assigned(1)
        document = (await bridge.get(f"/api/commands/{command_id}")).json()["command"]
    assert (assignment.command.max_runs, dict(assignment.command.max_runs_by_reason)) == (2, {"exit_nonzero": 5})
    assert {name: document[name] for name in runs} == runs


async def test_a_command_line_is_run_by_a_shell(server: RunningServer, bridge: RunningBridge) -> None:
    async with server.agent() as agent, bridge.dashboard() as dashboard:
        await dashboard.request("agent123", command="echo 'two words' $HOME")
        (assignment,) = await agent.assigned(1)
        await agent.finish(assignment)
    assert assignment.command.type == "EXEC"
    assert MessageToDict(assignment.command.params)["argv"] == ["sh", "-c", "echo 'two words' $HOME"]


async def test_an_interrupt_stops_a_command(server: RunningServer, bridge: RunningBridge) -> None:
    async with server.agent() as agent, bridge.dashboard() as dashboard:
        command_id = await dashboard.request("agent123", commandType="PING")
        (assignment,) = await agent.assigned(1)
        await agent.start(assignment)
        await dashboard.say("command:interrupt", commandId=command_id, reason="not this one")
        await agent.until(lambda: bool(agent.cancels))
        assert agent.cancels[0].reason == "not this one"
        await agent.finish(assignment, status=command_pb2.COMMAND_STATUS_CANCELLED)
        result = await dashboard.first("command:result", commandId=command_id)
    assert result["result"]["status"] == "cancelled"
    last = dashboard.of("command:status", commandId=command_id)[-1]
    assert (last["status"], last["command"]["status"]) == ("interrupted", "cancelled")
    assert last["command"]["cancelTime"]


async def test_an_interrupt_is_answered_to_who_is_not_subscribed(server: RunningServer, bridge: RunningBridge) -> None:
    command_id = await server.queue()
    async with bridge.dashboard() as dashboard:
        await dashboard.say("command:interrupt", commandId=command_id)
        told = await dashboard.first("command:status", commandId=command_id)
    assert told["status"] == "interrupted"


@pytest.mark.parametrize("subscribe", [{"commands": ["*"]}, {"commandsOf": ["nobody"]}, {}])
@pytest.mark.parametrize("behind", [True, False])
async def test_an_interrupt_tells_nothing_twice_nor_out_of_order(
    server: RunningServer, bridge: RunningBridge, subscribe: dict[str, list[str]], behind: bool
) -> None:
    """Whoever is subscribed hears by events what becomes of it, also from a bridge that is a moment behind."""
    real, cancelled = EventHub.relay, asyncio.Event()

    async def relay(self: EventHub, batch: EventBatch) -> None:
        if behind and any(
            isinstance(event, CommandChanged) and event.whole and event.status.terminal for event in batch.events
        ):
            await cancelled.wait()
        await real(self, batch)

    with patch.object(EventHub, "relay", relay):
        async with bridge.dashboard(subscribe=subscribe) as dashboard:
            if subscribe:
                command_id = await server.queue("nobody")
            else:
                command_id = await dashboard.request("nobody", commandType="PING", offline="queue")
            await dashboard.first("command:status", commandId=command_id)
            await dashboard.say("command:interrupt", commandId=command_id)
            if not behind:
                await dashboard.first("command:result", commandId=command_id)
            # Interrupts are served in their order: once this one is answered, the one before is done with.
            await dashboard.refused("command:interrupt", commandId=UNKNOWN_ID)
            cancelled.set()
            await dashboard.first("command:result", commandId=command_id)
            await dashboard.settled()
    messages = dashboard.of("command:status", "command:result", commandId=command_id)
    told = [message.get("command", {}).get("status") for message in messages]
    assert told[-2:] == ["cancelled", None]
    assert set(told[:-2]) == {"queued"}


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"offline": "fail"}, "FAILED_PRECONDITION", "AGENT_OFFLINE"),
        ({}, "FAILED_PRECONDITION", "AGENT_OFFLINE"),
        ({"offline": "queue"}, "", ""),
    ],
)
async def test_an_agent_that_is_away(bridge: RunningBridge, fields: dict[str, str], code: str, reason: str) -> None:
    async with bridge.dashboard() as dashboard:
        if code:
            error = await dashboard.refused("command:request", agentId="nobody", commandType="PING", **fields)
            assert (error["code"], error["reason"]) == (code, reason)
        else:
            command_id = await dashboard.request("nobody", commandType="PING", **fields)
            assert (await dashboard.first("command:status", commandId=command_id))["status"] == "queued"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"agentId": "a b", "commandType": "PING"}, "agentId"),
        ({"agentId": "a", "commandType": "1"}, "commandType"),
        ({"agentId": "a"}, "command"),
        ({"agentId": "a", "commandType": "PING", "priority": 101}, "priority"),
        ({"agentId": "a", "commandType": "PING", "params": []}, "params"),
        ({"agentId": "a", "commandType": "PING", "params": {"big": "x" * 300_000}}, "params"),
        ({"agentId": "a", "commandType": "PING", "timeLimitSeconds": -1}, "timeLimitSeconds"),
        ({"agentId": "a", "commandType": "PING", "timeLimitSeconds": 1e12}, "timeLimitSeconds"),
        ({"agentId": "a", "commandType": "PING", "idempotencyKey": "with space"}, "idempotencyKey"),
        ({"agentId": "a", "command": ""}, "command"),
    ],
)
async def test_a_wrong_request_is_refused_by_field(bridge: RunningBridge, fields: dict[str, Any], field: str) -> None:
    async with bridge.dashboard() as dashboard:
        error = await dashboard.refused("command:request", **fields)
        await dashboard.settled()
    assert (error["code"], error["field"]) == ("INVALID_ARGUMENT", field)


async def test_an_unknown_command_cannot_be_interrupted(bridge: RunningBridge) -> None:
    async with bridge.dashboard() as dashboard:
        error = await dashboard.refused("command:interrupt", commandId=UNKNOWN_ID)
    assert (error["code"], error["field"]) == ("NOT_FOUND", "commandId")


async def test_changes_need_their_role(server: RunningServer, bridge: RunningBridge) -> None:
    command_id = await server.queue()
    async with bridge.dashboard(READ) as dashboard:
        for type_, fields in (
            ("command:request", {"agentId": "agent123", "commandType": "PING"}),
            ("command:retry", {"commandId": command_id}),
            ("command:interrupt", {"commandId": command_id}),
        ):
            error = await dashboard.refused(type_, **fields)
            assert (error["code"], error["reason"]) == ("PERMISSION_DENIED", "ROLE_MISSING")
            dashboard.messages.clear()


async def test_an_ended_command_is_queued_again(server: RunningServer, bridge: RunningBridge) -> None:
    async with server.agent() as agent, bridge.dashboard() as dashboard:
        command_id = await server.queue(max_runs=3, params={"n": 1})
        early = await dashboard.refused("command:retry", commandId=command_id)
        await agent.finish(*await agent.assigned())
        again = {"commandId": command_id, "idempotencyKey": "k"}
        await dashboard.say("command:retry", requestId="a", **again)
        first = await dashboard.first("command:retried", requestId="a")
        await dashboard.say("command:retry", requestId="b", **again)
        second = await dashboard.first("command:retried", requestId="b")
        await agent.finish(await agent.next_assignment(first["newCommandId"]))
        await dashboard.first("command:result", commandId=first["newCommandId"])
        document = (await bridge.get(f"/api/commands/{first['newCommandId']}")).json()["command"]
    assert (early["code"], early["message"]) == (
        "FAILED_PRECONDITION",
        f"command {command_id} has not ended: it is assigned",
    )
    assert first["commandId"] == command_id
    assert first["newCommandId"] == second["newCommandId"] != command_id
    assert (document["retryOf"], document["maxRuns"], document["params"]) == (command_id, 3, {"n": 1})


async def test_an_unknown_command_is_not_queued_again(bridge: RunningBridge) -> None:
    async with bridge.dashboard() as dashboard:
        error = await dashboard.refused("command:retry", commandId=UNKNOWN_ID)
        dashboard.messages.clear()
        key = await dashboard.refused("command:retry", commandId=UNKNOWN_ID, idempotencyKey="k" * 101)
    assert (error["code"], error["reason"]) == ("NOT_FOUND", "UNKNOWN_COMMAND")
    assert (key["reason"], key["field"]) == ("INVALID_IDEMPOTENCY_KEY", "idempotencyKey")
    assert key["message"].startswith("idempotencyKey must be at most 100")


async def test_the_same_idempotency_key_queues_once(bridge: RunningBridge) -> None:
    async with bridge.dashboard() as dashboard:
        first = await dashboard.request(
            "nobody", commandType="PING", offline="queue", idempotencyKey="k", requestId="a"
        )
        second = await dashboard.request(
            "nobody", commandType="PING", offline="queue", idempotencyKey="k", requestId="b"
        )
        answers = dashboard.of("command:accepted")
    assert first == second
    assert [answer["alreadyQueued"] for answer in answers] == [False, True]


async def test_without_a_server_changes_are_refused_and_the_rest_goes_on(server: RunningServer) -> None:
    async with (
        running_bridge(server, server="127.0.0.1:1") as bridge,
        server.agent() as agent,
        bridge.dashboard(subscribe={"commands": ["*"]}) as dashboard,
    ):
        error = await dashboard.refused("command:request", agentId="agent123", commandType="PING")
        assert error["code"] == "UNAVAILABLE"
        command_id = await server.queue()
        await agent.finish(*await agent.assigned())
        await dashboard.first("command:result", commandId=command_id)
