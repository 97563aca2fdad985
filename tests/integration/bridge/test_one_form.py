"""A command, a result and an agent have the same JSON wherever they are read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from valkey.asyncio import Valkey

from distributor.v1 import command_pb2
from distributor.wire.json_values import fill_value
from tests.support.launched_sender import run_sender
from tests.support.running_bridge import RunningBridge
from tests.support.running_server import CANCELLED, COMPLETED, FAILED, RunningServer
from tests.support.wire_agent import WireAgent

LOOKED_UP = {"agentKnown", "agentAwaySince", "outputBytes"}
"""Fields of a command that are null where it costs a look-up to tell."""

ENDINGS: dict[str, dict[str, Any]] = {
    "completed": {"status": COMPLETED, "exit_code": 0},
    "failed": {"status": FAILED, "exit_code": 3, "reason": command_pb2.Reason(code="exit_nonzero", message='a "b"/\\')},
    "without": {"status": COMPLETED},
}


async def finish(agent: WireAgent, command_id: str, data: Any, fields: dict[str, Any]) -> None:
    (assignment,) = await agent.assigned()
    assert assignment.command.command_id == command_id
    await agent.start(assignment)
    if data is not None:
        fields = fields | {"data": command_pb2.CommandResult().data}
        fill_value(fields["data"], data, "data")
    await agent.finish(assignment, **fields)


async def stored(valkey_url: str, command_id: str) -> Any:
    async with Valkey.from_url(valkey_url) as client:
        return json.loads(await client.get(f"cmd:result:{command_id}"))


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("data", [None, {"é": [1, 0.5, None, {}, []], "": True}])
async def test_a_result(server: RunningServer, bridge: RunningBridge, valkey_url: str, ending: str, data: Any) -> None:
    async with server.agent() as agent, bridge.dashboard(subscribe={"commands": ["*"]}) as dashboard:
        command_id = await server.queue()
        await finish(agent, command_id, data, ENDINGS[ending])
        message = await dashboard.first("command:result", commandId=command_id)
        status = dashboard.of("command:status", commandId=command_id)[-1]
    kept = await stored(valkey_url, command_id)
    assert kept["data"] == data
    assert kept["exitCode"] == ENDINGS[ending].get("exit_code")
    document = (await bridge.get(f"/api/commands/{command_id}")).json()
    assert message["result"] == kept
    assert document["result"] == kept
    assert (await run_sender(server.address, "result", command_id, "-o", "json")).document == kept
    got = (await run_sender(server.address, "get", command_id, "-o", "json")).document
    (row,) = (await run_sender(server.address, "list", "-o", "jsonl")).records
    command = document["command"]
    assert command.pop("exitCode") == kept["exitCode"]
    assert without(LOOKED_UP, got) == without(LOOKED_UP, command)
    assert row.items() <= command.items()
    assert status["command"] == row | {"exitCode": kept["exitCode"]}


async def test_a_late_report(server: RunningServer, bridge: RunningBridge, valkey_url: str) -> None:
    async with server.agent() as agent:
        command_id = await server.queue()
        await finish(agent, command_id, None, ENDINGS["failed"])
        await agent.finish(*await agent.assigned(), status=COMPLETED, exit_code=0)
    async with Valkey.from_url(valkey_url) as client:
        kept = json.loads(await client.get(f"cmd:late:{command_id}"))
    got = (await run_sender(server.address, "get", command_id, "-o", "json")).document
    document = (await bridge.get(f"/api/commands/{command_id}")).json()
    assert got["lateResult"] == document["command"]["lateResult"] == kept
    assert (kept["status"], document["result"]["status"]) == ("completed", "failed")


async def test_a_result_that_no_agent_reported(server: RunningServer, bridge: RunningBridge, valkey_url: str) -> None:
    command_id = await server.queue("nobody")
    cancelled = (await run_sender(server.address, "cancel", command_id, "-o", "json")).document
    kept = await stored(valkey_url, command_id)
    assert cancelled["status"] == kept["status"] == "cancelled"
    assert kept["reason"]["code"] == "cancelled"
    assert [kept[name] for name in ("exitCode", "data", "outputBytes", "outputDroppedBytes")] == [None, None, 0, 0]
    assert (await bridge.get(f"/api/commands/{command_id}")).json()["result"] == kept
    assert (await run_sender(server.address, "result", command_id, "-o", "json")).document == kept
    assert command_pb2.CommandStatus.Name(CANCELLED).endswith(kept["status"].upper())


async def test_an_agent(server: RunningServer, bridge: RunningBridge) -> None:
    async with server.agent(labels={"zone": "x"}), bridge.dashboard(subscribe={"agents": ["*"]}) as dashboard:
        connected = await dashboard.first("connected")
        (listed,) = (await bridge.get("/api/agents")).json()["agents"]
        told = (await run_sender(server.address, "agents", "agent123", "-o", "json")).document
    (shown,) = connected["agents"]
    assert shown == listed == told


async def test_an_error(server: RunningServer, bridge: RunningBridge) -> None:
    offline = {"agentId": "nobody", "commandType": "PING", "offline": "fail"}
    async with bridge.dashboard() as one, bridge.dashboard() as other:
        refused = await one.refused("command:request", **offline)
        named = await other.refused("command:request", agentId="a b", commandType="PING")
    answer = (await bridge.get("/api/commands?agent=a%20b")).json()
    lines = b'{"agentId": "a1", "type": "PING"}\n{"agentId": "nobody", "type": "PING", "offline": "fail"}\n'
    (_, told) = (await run_sender(server.address, "--input=-", "-o", "jsonl", stdin=lines)).records
    assert set(told["error"]) <= set(refused)
    assert told["error"] | {"field": "agentId"} == {name: refused[name] for name in told["error"]}
    assert (told["error"]["reason"], told["error"]["field"]) == ("AGENT_OFFLINE", "command.agent_id")
    assert set(answer["error"]) == set(told["error"])
    assert (answer["error"]["field"], named["field"]) == ("agent", "agentId")


def without(names: set[str], document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in names}
