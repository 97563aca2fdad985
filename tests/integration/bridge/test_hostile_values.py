"""Values that gRPC takes come out exactly at every exit: agent, stored result, command line, API, dashboard, client."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from valkey.asyncio import Valkey

from distributor.client import CommandClient
from distributor.v1 import command_service_pb2 as pb
from distributor.wire.json_values import fill_struct
from tests.support.hostile_values import EXACT, LARGE_ONES, spelt
from tests.support.launched_sender import run_sender
from tests.support.running_bridge import RunningBridge
from tests.support.running_server import RunningServer, queue_request
from tests.support.wire_agent import result

Entry = Callable[[RunningServer, RunningBridge, Mapping[str, Any]], Awaitable[dict[str, str]]]
"""Queues each value as the param `v`; returns the ids of the commands by the names of the values."""

ALL = EXACT | LARGE_ONES


def request_of(value: Any) -> pb.QueueCommandRequest:
    request = queue_request()
    fill_struct(request.command.params, {"v": value}, "command.params")
    return request


async def by_grpc(server: RunningServer, bridge: RunningBridge, values: Mapping[str, Any]) -> dict[str, str]:
    ids = {}
    for name, value in values.items():
        ids[name] = (await server.commands.QueueCommand(request_of(value))).command.command_id
    return ids


async def by_grpc_many(server: RunningServer, bridge: RunningBridge, values: Mapping[str, Any]) -> dict[str, str]:
    requests = [request_of(value) for value in values.values()]
    outcomes = (await server.commands.QueueCommands(pb.QueueCommandsRequest(requests=requests))).outcomes
    return {name: outcome.command_id for name, outcome in zip(values, outcomes, strict=True)}


@pytest.mark.parametrize("entry", [by_grpc, by_grpc_many])
async def test_values_come_through_exactly(
    server: RunningServer, bridge: RunningBridge, valkey_url: str, entry: Entry
) -> None:
    """Each value goes in as params, comes to the agent, is its result, and is read at every exit."""
    values = ALL if entry is by_grpc_many else EXACT
    expected = {name: spelt({"v": value}) for name, value in values.items()}
    async with server.agent(capacity=100) as agent, bridge.dashboard(subscribe={"commands": ["*"]}) as dashboard:
        await agent.heartbeat(credit=100)
        ids = await entry(server, bridge, values)
        assert list(ids) == list(values)
        for assignment in await agent.assigned(len(values)):
            echo = result(assignment)
            echo.data.struct_value.CopyFrom(assignment.command.params)
            await agent.report(echo)
        for name, command_id in ids.items():
            told = await dashboard.first("command:result", commandId=command_id)
            assert spelt(told["result"]["data"]) == expected[name], name
    names = {command_id: name for name, command_id in ids.items()}
    for read, field in (("get", "params"), ("result", "data")):
        records = (await run_sender(server.address, read, *names, "-o", "jsonl")).records
        assert [spelt(record[field]) for record in records] == list(expected.values())
    table = await run_sender(server.address, "result", *names)
    assert not {"\x1b", "\0", "\u202e", "\x9b"} & set(table.stdout.decode())
    async with Valkey.from_url(valkey_url) as valkey, CommandClient(server.address) as client:
        for command_id, name in names.items():
            stored = json.loads(await valkey.get(f"cmd:result:{command_id}"))
            assert spelt(stored["data"]) == expected[name], name
            assert spelt((await client.get(command_id)).params) == expected[name], name
            assert spelt((await client.result(command_id)).data) == expected[name], name
            document = (await bridge.get(f"/api/commands/{command_id}")).json()
            assert spelt(document["command"]["params"]) == expected[name], name
            assert spelt(document["result"]["data"]) == expected[name], name
