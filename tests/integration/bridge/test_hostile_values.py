"""Values come out of every exit as they went in at any entry: gRPC, client, command line, dashboard, agent result."""

from __future__ import annotations

import json
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

import pytest
from valkey.asyncio import Valkey

from distributor.client import CommandClient, CommandRequest
from distributor.v1 import command_service_pb2 as pb
from distributor.wire.json_values import fill_struct
from tests.support.dashboard_client import DashboardClient
from tests.support.hostile_values import EXACT, LARGE_ONES, spelt
from tests.support.launched_sender import run_sender
from tests.support.running_bridge import RunningBridge
from tests.support.running_server import RunningServer, queue_request
from tests.support.wire_agent import result

ALL: Final = EXACT | LARGE_ONES
WHAT: Final = {"agentId": "agent123", "type": "PRINT"}
UNSEEN: Final = set(map(chr, [*range(10), *range(11, 32), *range(127, 160)])) | set("\u202e\u2066\u2028\u2029\ufeff")
"""Characters that no terminal may get."""


class Entries(NamedTuple):
    """What a value can be sent through."""

    server: RunningServer
    client: CommandClient
    dashboard: DashboardClient
    bridge: RunningBridge


Params = Mapping[str, dict[str, Any]]
"""Params of commands by name."""
Entry = Callable[[Entries, Params], Awaitable[list[str]]]
"""Queues a command with each of the params; returns their ids in order."""


def request_of(params: Mapping[str, Any]) -> pb.QueueCommandRequest:
    request = queue_request()
    fill_struct(request.command.params, params, "command.params")
    return request


async def by_grpc(to: Entries, params: Params) -> list[str]:
    answers = [await to.server.commands.QueueCommand(request_of(one)) for one in params.values()]
    return [answer.command.command_id for answer in answers]


async def by_grpc_many(to: Entries, params: Params) -> list[str]:
    request = pb.QueueCommandsRequest(requests=map(request_of, params.values()))
    return [outcome.command_id for outcome in (await to.server.commands.QueueCommands(request)).outcomes]


async def by_client(to: Entries, params: Params) -> list[str]:
    requests = [CommandRequest("agent123", "PRINT", one) for one in params.values()]
    return [outcome.command_id for outcome in await to.client.queue_many(requests)]  # type: ignore[union-attr]


async def by_dashboard(to: Entries, params: Params) -> list[str]:
    """As bare text rather than escapes, and -0 as a whole number."""
    for name, one in params.items():
        fields = {"type": "command:request", "version": "1.0.0", "requestId": name, "offline": "queue"}
        text = json.dumps(fields | {"agentId": "agent123", "commandType": "PRINT", "params": one}, ensure_ascii=False)
        await to.dashboard.socket.send(text.replace("-0.0", "-0"))
    answers = [await to.dashboard.first("command:accepted", "error", requestId=name) for name in params]
    return [answer["commandId"] for answer in answers]


async def by_input_lines(to: Entries, params: Params) -> list[str]:
    lines = [json.dumps(WHAT | {"params": one}).replace("-0.0", "-0") for one in params.values()]
    sent = await run_sender(to.server.address, "--input=-", "-o", "jsonl", stdin="\n".join(lines).encode())
    return [record["commandId"] for record in sent.records]


@pytest.fixture
async def entries(server: RunningServer, bridge: RunningBridge) -> AsyncIterator[Entries]:
    async with (
        CommandClient(server.address) as client,
        bridge.dashboard(subscribe={"commands": ["*"]}) as dashboard,
    ):
        yield Entries(server, client, dashboard, bridge)


async def echoed(to: Entries, count: int, queue: Callable[[], Awaitable[list[str]]]) -> list[str]:
    """Queue, and have an agent give the params of each command back as the data of its result."""
    async with to.server.agent(capacity=300) as agent:
        await agent.heartbeat(credit=300)
        ids = await queue()
        for assignment in await agent.assigned(count):
            echo = result(assignment)
            echo.data.struct_value.CopyFrom(assignment.command.params)
            await agent.report(echo)
    return ids


async def check_exits(to: Entries, valkey_url: str, expected: Mapping[str, Mapping[str, Any]]) -> None:
    """Everything that tells params or data of these commands, by id, tells them exactly."""
    wanted = {command_id: spelt(params) for command_id, params in expected.items()}
    for command_id, params in wanted.items():
        told = await to.dashboard.first("command:result", commandId=command_id)
        assert spelt(told["result"]["data"]) == params
    for read, field in (("get", "params"), ("result", "data")):
        records = (await run_sender(to.server.address, read, *wanted, "-o", "jsonl")).records
        assert [spelt(record[field]) for record in records] == list(wanted.values())
    assert not UNSEEN & set((await run_sender(to.server.address, "result", *wanted)).stdout.decode())
    async with Valkey.from_url(valkey_url) as valkey:
        for command_id, params in wanted.items():
            assert spelt(json.loads(await valkey.get(f"cmd:result:{command_id}"))["data"]) == params
            assert spelt((await to.client.get(command_id)).params) == params
            assert spelt((await to.client.result(command_id)).data) == params
            document = (await to.bridge.get(f"/api/commands/{command_id}")).json()
            assert spelt(document["command"]["params"]) == params
            assert spelt(document["result"]["data"]) == params


async def by_options(to: Entries, params: Params) -> list[str]:
    """--params-json with a byte order mark before it, and --params of what arguments can hold."""
    options = ["--agent=agent123", "--type=PRINT", "-o", "json"]
    whole = "\ufeff" + json.dumps(params["whole"]).replace("-0.0", "-0")
    pairs = [f"--params={name}={text}" for name, text in params["pairs"].items()]
    one = await run_sender(to.server.address, *options, "--params-json=-", stdin=whole.encode())
    other = await run_sender(to.server.address, *options, *pairs)
    return [one.document["commandId"], other.document["commandId"]]


def each_of(values: Mapping[str, Any]) -> Params:
    return {name: {"v": value} for name, value in values.items()}


async def test_values_come_through_exactly(entries: Entries, valkey_url: str) -> None:
    """Each value goes in as params by each entry, comes to the agent, is its result, and is read at every exit."""
    texts = {name: text for name, text in EXACT.items() if isinstance(text, str) and "\0" not in text}
    given: dict[Entry, Params] = {
        by_grpc: each_of(EXACT),
        by_grpc_many: each_of(ALL),
        by_client: each_of(EXACT),
        by_dashboard: each_of(ALL),
        by_input_lines: each_of(ALL),
        by_options: {"whole": EXACT, "pairs": texts},
    }
    expected = [one for params in given.values() for one in params.values()]

    async def queue() -> list[str]:
        return [command_id for entry, params in given.items() for command_id in await entry(entries, params)]

    ids = await echoed(entries, len(expected), queue)
    await check_exits(entries, valkey_url, dict(zip(ids, expected, strict=True)))


async def test_lists_show_values_on_one_line(entries: Entries) -> None:
    """Numbers exactly, text as one would type it, without what no terminal may get; table and JSON say the same."""
    ids = await by_grpc_many(entries, each_of(ALL))
    table = (await run_sender(entries.server.address, "list", "--limit=100")).stdout.decode()
    assert not UNSEEN & set(table)
    listed = (await run_sender(entries.server.address, "list", "--limit=100", "-o", "json")).document["commands"]
    summaries = {row["commandId"]: row["paramsSummary"] for row in listed}
    for (name, value), command_id in zip(ALL.items(), ids, strict=True):
        summary = summaries[command_id]
        assert summary.isprintable(), name
        assert len(summary.encode()) <= 60, name
        assert summary in table, name
        if isinstance(value, int | float):
            assert float(summary.removeprefix("v=")) == value, name
            assert summary.startswith("v=-") == spelt(value).startswith("-"), name
        elif isinstance(value, str) and value.isprintable() and name not in LARGE_ONES:
            assert shlex.split(summary) == [f"v={value}"], name
