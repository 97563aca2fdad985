"""Values that would not come out as they went in are refused at every entry, with the path of the field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any, Final

import pytest
from click import UsageError

from distributor.cli.sender.arguments import json_object
from distributor.cli.sender.input_lines import read_lines
from distributor.client import CommandClient, CommandRequest
from distributor.errors import DistributorError
from distributor.v1 import command_service_pb2 as pb
from tests.support.dashboard_client import DashboardClient
from tests.support.hostile_values import REFUSED, REFUSED_BY_GRPC, Refused, sized
from tests.support.launched_sender import run_sender
from tests.support.received_errors import error_of
from tests.support.running_bridge import RunningBridge
from tests.support.running_server import RunningServer, queue_request
from tests.support.wire_agent import result

MOST: Final = 262_144
"""Bytes of params by default."""
REFUSED_CODE: Final = 6
SEND: Final = ("--agent=agent123", "--type=PRINT")
SHALLOW: Final = {name: refused for name, refused in REFUSED_BY_GRPC.items() if name != "deep objects"}
"""What parsers can still read inside a message of many."""
AS_TEXT: Final = {
    "NaN": "v is nan, which JSON cannot represent",
    "-1e400": "v is -inf, which JSON cannot represent",
    "[0, 1e400]": "v[1] is inf, which JSON cannot represent",
    "9" * 5_000: "v is an integer beyond ±2^53, which would be rounded: send it as text",
}
"""JSON text that only a text can say, and the complaint."""


def fault(refused: Refused, before: str) -> tuple[str, str, str]:
    """Reason, field and sentence where the value is the param `v`, after what the entry calls params."""
    field = f"{before}.v{refused.path}"
    return refused.reason, field, f"{field} {refused.sentence}"


async def refusal_of_client(client: CommandClient, params: Mapping[str, Any]) -> tuple[str, str, str]:
    with pytest.raises(DistributorError) as caught:
        await client.queue(CommandRequest("agent123", "PRINT", params))
    return caught.value.reason, caught.value.field, caught.value.message


async def refusal_of_dashboard(dashboard: DashboardClient, params: str, name: str) -> tuple[str, str, str]:
    fields = json.dumps({"type": "command:request", "version": "1.0.0", "agentId": "agent123", "commandType": "PRINT"})
    text = f'{fields[:-1]}, "requestId": {json.dumps(name)}, "offline": "queue", "params": {params}}}'
    await dashboard.socket.send(text)
    error = await dashboard.first("command:accepted", "error", requestId=name)
    return error["reason"], error["field"], error["message"]


async def test_grpc(server: RunningServer) -> None:
    """In a call of many, 33 objects are deeper than parsers go: that is refused as a whole, without a field."""
    for name, refused in REFUSED_BY_GRPC.items():
        request = queue_request(params={"v": refused.value})
        error = await error_of(server.commands.QueueCommand(request))
        assert (error.reason, error.field, error.text) == fault(refused, "command.params"), name
    requests = [queue_request(params={"v": refused.value}) for refused in SHALLOW.values()]
    answer = await server.commands.QueueCommands(pb.QueueCommandsRequest(requests=requests))
    for (name, refused), outcome in zip(SHALLOW.items(), answer.outcomes, strict=True):
        told = (outcome.error.reason, outcome.error.field, outcome.error.message)
        assert told == fault(refused, "command.params"), name
    deep = [queue_request(params={"v": REFUSED["deep objects"].value})]
    error = await error_of(server.commands.QueueCommands(pb.QueueCommandsRequest(requests=deep)))
    assert (error.reason, error.field) == ("NESTED_TOO_DEEP", "")
    assert await server.ids() == []


async def test_client(server: RunningServer) -> None:
    async with CommandClient(server.address) as client:
        for name, refused in REFUSED.items():
            assert await refusal_of_client(client, {"v": refused.value}) == fault(refused, "command.params"), name
    assert await server.ids() == []


async def test_dashboards(server: RunningServer, bridge: RunningBridge) -> None:
    async with bridge.dashboard() as dashboard:
        for name, refused in REFUSED.items():
            text = json.dumps({"v": refused.value})
            assert await refusal_of_dashboard(dashboard, text, name) == fault(refused, "params"), name
        for value, complaint in AS_TEXT.items():
            _, _, message = await refusal_of_dashboard(dashboard, f'{{"v": {value}}}', f"text {value[:9]}")
            assert message == f"params.{complaint}"
    assert await server.ids() == []


async def test_options(server: RunningServer) -> None:
    """What --params-json reads goes to the client. A process of each kind shows that they do so."""
    async with CommandClient(server.address) as client:
        for name, refused in REFUSED.items():
            params = json_object(json.dumps({"v": refused.value}))
            assert await refusal_of_client(client, params) == fault(refused, "command.params"), name
        for value, complaint in AS_TEXT.items():
            _, _, message = await refusal_of_client(client, json_object(f'{{"v": {value}}}'))
            assert message == f"command.params.{complaint}"
    sent = await run_sender(server.address, *SEND, '--params-json={"v": NaN}')
    assert (sent.code, sent.stderr) == (REFUSED_CODE, f"error: command.params.{AS_TEXT['NaN']}\n")
    sent = await run_sender(server.address, *SEND, "--params=v=\udcff")
    assert (sent.code, sent.stderr) == (REFUSED_CODE, "error: command.params.v is not valid Unicode text\n")
    assert await server.ids() == []


def test_lines_of_a_file() -> None:
    """Each alone, as the first that is wrong ends the reading."""
    for name, refused in REFUSED.items():
        line = json.dumps({"params": {"v": refused.value}}).encode()
        with pytest.raises(UsageError) as caught:
            list(read_lines(BytesIO(b"{}\n" + line)))
        assert caught.value.message == f"--input line 2 {fault(refused, 'params')[2]}", name


async def test_results(server: RunningServer) -> None:
    """Deep objects end the stream, as parsers do not go so deep."""
    async with server.agent(capacity=100) as agent:
        await agent.heartbeat(credit=100)
        await server.queue_many(len(SHALLOW))
        assignments = await agent.assigned(len(SHALLOW))
        for (name, refused), assignment in zip(SHALLOW.items(), assignments, strict=True):
            report = result(assignment)
            report.data.struct_value.update({"v": refused.value})
            (ack,) = await agent.report(report)
            assert (ack.reason.code, ack.reason.message) == ("invalid_result", fault(refused, "result.data")[2]), name
            kept = await server.result(assignment.command.command_id)
            assert kept.reason == ack.reason


async def test_params_have_a_size(server: RunningServer, bridge: RunningBridge) -> None:
    """By every entry exactly 256 KiB pass, as a `Struct`, and one byte more does not."""
    fits, over = sized(MOST), sized(MOST + 1)
    refused = ("PARAMS_TOO_LARGE", "command.params", "command.params is 262,145 bytes, the limit is 262,144")
    error = await error_of(server.commands.QueueCommand(queue_request(params=over)))
    assert (error.reason, error.field, error.text) == refused
    await server.queue(params=fits)
    async with CommandClient(server.address) as client:
        assert await refusal_of_client(client, over) == refused
        await client.queue(CommandRequest("agent123", "PRINT", fits))
    async with bridge.dashboard() as dashboard:
        told = await refusal_of_dashboard(dashboard, json.dumps(over), "over")
        assert told == (refused[0], "params", refused[2].removeprefix("command."))
        await dashboard.request("agent123", commandType="PRINT", params=fits, offline="queue")
    sent = await run_sender(server.address, *SEND, "--params-json=-", stdin=json.dumps(fits).encode())
    assert sent.code == 0
    lines = [json.dumps({"params": params}) for params in (over, fits)]
    sent = await run_sender(server.address, *SEND, "--input=-", stdin="\n".join(lines).encode())
    assert (sent.code, refused[2] in sent.stderr) == (REFUSED_CODE, True)
    ids = await server.ids()
    assert len(ids) == 5
    for command_id in ids:
        assert dict((await server.get(command_id)).command.params) == fits
