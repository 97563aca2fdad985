"""What agents get wrong once they are attached: told, and nothing changes in Valkey but that the agent is away."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
from google.protobuf.struct_pb2 import NULL_VALUE, ListValue, Value

from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1 import command_pb2
from tests.support.received_errors import told
from tests.support.running_server import ASSIGNED, COMPLETED, FAILED, RunningServer, keyspace
from tests.support.wire_agent import WireAgent, hello, opened_stream, raw_stream, result

UNKNOWN: Any = 77
"""No value of any enum."""
OF_SESSIONS = (b"events", b"agent:agent123:session")
"""What tells that an agent attached or left."""


class Violation(NamedTuple):
    name: str
    parts: dict[str, Any]
    field: str
    limit: str


def output(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"command_id": "c", "lease_id": "l", "stream": 1, "data": b"x"}
    return {"output": [pb.Output(**fields | changes)]}


VIOLATIONS = [
    *(
        Violation(f"21 {name}", {name: [kind(command_id="c")] * 21}, name, "21 entries, the limit is 20")
        for name, kind in (
            ("received", pb.Received),
            ("started", pb.Started),
            ("refused", pb.Refused),
            ("output", pb.Output),
            ("results", pb.Result),
            ("cancel_reports", pb.CancelReport),
        )
    ),
    *(
        Violation(
            f"over-long {id_name} in {name}",
            {name: [kind(**others | {id_name: "x" * 65})]},
            f"{name}.{id_name}",
            "at most 64",
        )
        for name, kind, others in (
            ("received", pb.Received, {}),
            ("started", pb.Started, {}),
            ("refused", pb.Refused, {"code": pb.REFUSAL_CODE_BUSY}),
            ("output", pb.Output, {"stream": 1, "data": b"x"}),
            ("results", pb.Result, {"status": COMPLETED}),
            ("cancel_reports", pb.CancelReport, {"finding": pb.CANCEL_FINDING_UNKNOWN}),
        )
        for id_name in ("command_id", "lease_id")
        if id_name in kind.DESCRIPTOR.fields_by_name
    ),
    Violation("negative credit", {"heartbeat": pb.Heartbeat(sequence=1, credit=-1)}, "heartbeat", "not be negative"),
    Violation("negative running", {"heartbeat": pb.Heartbeat(sequence=1, running=-1)}, "heartbeat", "not be negative"),
    Violation("no output", output(data=b""), "output.data", "1 to 65,536 bytes, not 0"),
    Violation("too much output", output(data=bytes(65_537)), "output.data", "1 to 65,536 bytes, not 65,537"),
    Violation("negative offset", output(offset=-1), "output.offset", "0 to 2^53"),
    Violation("huge offset", output(offset=2**53), "output.offset", "0 to 2^53"),
    Violation("offset with a huge end", output(offset=2**53 - 1, data=b"ab"), "output.offset", "and so must its end"),
    Violation("unknown stream", output(stream=9), "output.stream", "no value 9"),
    Violation("unspecified stream", output(stream=0), "output.stream", "no value 0"),
    Violation(
        "unknown refusal", {"refused": [pb.Refused(command_id="c", code=UNKNOWN)]}, "refused.code", "no value 77"
    ),
    Violation(
        "unknown finding",
        {"cancel_reports": [pb.CancelReport(command_id="c", finding=UNKNOWN)]},
        "cancel_reports.finding",
        "no value 77",
    ),
]


def listed(inmost: Value, levels: int) -> Value:
    """The value in a list in a list, so many levels deep."""
    for _ in range(levels):
        inmost = Value(list_value=ListValue(values=[inmost]))
    return inmost


async def but_for_sessions(server: RunningServer) -> dict[bytes, bytes]:
    everything = await keyspace(server.settings.valkey_url)
    return {key: value for key, value in everything.items() if key not in OF_SESSIONS}


@pytest.fixture
async def agent(server: RunningServer) -> AsyncIterator[WireAgent]:
    """An agent that runs one command."""
    async with server.agent() as agent:
        command_id = await server.queue()
        await agent.start(await agent.next_assignment(command_id))
        await server.until_state(command_id, lambda state: state.receipts.HasField("start_time"))
        yield agent


@pytest.mark.parametrize("violation", VIOLATIONS, ids=lambda violation: violation.name)
async def test_what_the_protocol_does_not_allow_ends_the_stream(
    server: RunningServer, agent: WireAgent, violation: Violation
) -> None:
    before = await but_for_sessions(server)
    await agent.send(**violation.parts)
    error = told(await agent.ended(), agent.details, agent.trailing)
    assert error[:3] == ("INVALID_ARGUMENT", violation.field, "PROTOCOL_VIOLATION")
    assert violation.limit in error.text
    assert await but_for_sessions(server) == before


@pytest.mark.parametrize("first", [True, False], ids=["as the first message", "later"])
async def test_bytes_that_are_no_message_end_the_stream(server: RunningServer, first: bool) -> None:
    call = raw_stream(server.channel)
    if not first:
        await call.write(pb.ConnectRequest(hello=hello()).SerializeToString())
        await call.read()
    before = await but_for_sessions(server)
    await call.write(b"\xff\xff\xff")
    error = told(await call.code(), await call.details(), await call.trailing_metadata())
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "MALFORMED_MESSAGE")
    assert await but_for_sessions(server) == before


async def test_text_that_is_not_utf8_ends_the_stream(server: RunningServer) -> None:
    call = raw_stream(server.channel)
    message = pb.ConnectRequest(hello=hello(agent_version="xxxx")).SerializeToString()
    await call.write(message.replace(b"xxxx", b"\xc3\x28\xff\xfe"))
    error = told(await call.code(), await call.details(), await call.trailing_metadata())
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "MALFORMED_MESSAGE")
    assert await keyspace(server.settings.valkey_url) == {}


async def test_a_message_over_the_size_limit_ends_the_stream(server: RunningServer) -> None:
    async with opened_stream(server.address) as agent:
        call = raw_stream(server.channel)
        await call.write(bytes(8 * 1024 * 1024))
        assert agent.code is None
        assert (await call.code()).name in ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT")
    assert await keyspace(server.settings.valkey_url) == {}


# Results that are not to be kept: the stream goes on, and the agent is told why.


async def test_a_result_for_another_agents_command(server: RunningServer, agent: WireAgent) -> None:
    (assignment,) = agent.assignments
    async with server.agent("agent456") as other:
        before = await keyspace(server.settings.valkey_url)
        (ack,) = await other.finish(assignment)
        assert (ack.command_id, ack.verdict) == (assignment.command.command_id, pb.RESULT_VERDICT_REJECTED)
        assert (ack.reason.code, ack.reason.message) == ("foreign_command", "the command is another agent's")
        assert await keyspace(server.settings.valkey_url) == before
        assert (await server.state(assignment.command.command_id)).status == ASSIGNED


@pytest.mark.parametrize("command_id", ["00000000-0000-7000-8000-000000000000", "nonsense", ""])
async def test_a_result_for_an_unknown_command(server: RunningServer, agent: WireAgent, command_id: str) -> None:
    before = await keyspace(server.settings.valkey_url)
    (ack,) = await agent.report(pb.Result(command_id=command_id, lease_id="l", status=COMPLETED))
    assert (ack.command_id, ack.verdict, ack.reason.code) == (
        command_id,
        pb.RESULT_VERDICT_REJECTED,
        "unknown_command",
    )
    assert await keyspace(server.settings.valkey_url) == before


async def test_a_second_result_is_kept_beside_the_first(server: RunningServer, agent: WireAgent) -> None:
    (assignment,) = agent.assignments
    command_id = assignment.command.command_id
    (first,) = await agent.finish(assignment, exit_code=0)
    assert (first.verdict, first.reason.code) == (pb.RESULT_VERDICT_STORED, "")
    before = await keyspace(server.settings.valkey_url)
    (second,) = await agent.finish(assignment, status=FAILED, exit_code=1)
    assert second.verdict == pb.RESULT_VERDICT_LATE
    after = await keyspace(server.settings.valkey_url)
    late = f"cmd:late:{command_id}".encode()
    assert after.pop(late)
    # The late report is announced.
    assert after.pop(b"events") != before.pop(b"events")
    assert after == before
    assert (await server.result(command_id)).status == COMPLETED


async def test_a_result_under_another_lease(server: RunningServer, agent: WireAgent) -> None:
    (assignment,) = agent.assignments
    before = await keyspace(server.settings.valkey_url)
    (ack,) = await agent.finish(assignment, lease_id="another")
    assert (ack.verdict, ack.reason.code) == (pb.RESULT_VERDICT_REJECTED, "stale_lease")
    assert await keyspace(server.settings.valkey_url) == before


@pytest.mark.parametrize("status", [0, 1, 2, 99], ids=["unspecified", "queued", "assigned", "unknown enum value"])
async def test_a_result_that_does_not_end_the_command_fails_it(
    server: RunningServer, agent: WireAgent, status: int
) -> None:
    (assignment,) = agent.assignments
    (ack,) = await agent.finish(assignment, status=status)
    assert (ack.verdict, ack.reason.code) == (pb.RESULT_VERDICT_REJECTED, "invalid_result")
    kept = await server.result(assignment.command.command_id)
    assert (kept.status, kept.reason.code) == (FAILED, "invalid_result")
    assert "non-terminal status" in kept.reason.message


async def test_a_result_over_the_size_limit_fails_its_command(server: RunningServer, agent: WireAgent) -> None:
    (assignment,) = agent.assignments
    (ack,) = await agent.finish(assignment, data=Value(string_value="x" * 262_144))
    assert (ack.verdict, ack.reason.code) == (pb.RESULT_VERDICT_REJECTED, "result_too_large")
    assert "the limit is 262,144" in ack.reason.message
    kept = await server.result(assignment.command.command_id)
    assert (kept.status, kept.reason.code) == (FAILED, "result_too_large")
    assert not kept.HasField("data")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"data": Value(number_value=float("inf"))}, "result.data is inf, which JSON cannot represent"),
        ({"data": listed(Value(number_value=float("nan")), 1)}, "result.data[0] is nan, which JSON cannot represent"),
        ({"data": listed(Value(), 33)}, "nests deeper than 32 levels"),
        ({"output_bytes": -1}, "output_bytes"),
    ],
)
async def test_a_result_that_makes_no_sense_fails_its_command(
    server: RunningServer, agent: WireAgent, fields: dict[str, Any], reason: str
) -> None:
    (assignment,) = agent.assignments
    (ack,) = await agent.finish(assignment, **fields)
    assert ack.verdict == pb.RESULT_VERDICT_REJECTED
    kept = await server.result(assignment.command.command_id)
    assert (kept.status, kept.reason.code) == (FAILED, "invalid_result")
    assert reason in kept.reason.message


async def test_a_result_as_deep_as_the_limit_is_kept(server: RunningServer, agent: WireAgent) -> None:
    (assignment,) = agent.assignments
    deep = listed(Value(null_value=NULL_VALUE), 32)
    (ack,) = await agent.finish(assignment, data=deep)
    assert ack.verdict == pb.RESULT_VERDICT_STORED
    assert (await server.result(assignment.command.command_id)).data == deep


async def test_a_message_deeper_than_parsers_go_ends_the_stream(server: RunningServer) -> None:
    message = pb.ConnectRequest()
    data = message.results.add(command_id="c", lease_id="l").data
    for _ in range(60):
        data = data.list_value.values.add()
    call = raw_stream(server.channel)
    await call.write(pb.ConnectRequest(hello=hello()).SerializeToString())
    await call.read()
    await call.write(message.SerializeToString())
    error = told(await call.code(), await call.details(), await call.trailing_metadata())
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "NESTED_TOO_DEEP")


async def test_a_reason_is_made_fit_to_be_kept(server: RunningServer, agent: WireAgent) -> None:
    (assignment,) = agent.assignments
    reason = command_pb2.Reason(code="Not A Word", message="é" * 2_000)
    await agent.report(result(assignment, status=FAILED, reason=reason))
    kept = await server.result(assignment.command.command_id)
    assert kept.reason.code == "unspecified"
    assert len(kept.reason.message) == 1_024


async def test_what_is_ignored_is_named_in_the_debug_log(
    server: RunningServer, agent: WireAgent, caplog: pytest.LogCaptureFixture
) -> None:
    (assignment,) = agent.assignments
    command_id, lease_id = assignment.command.command_id, assignment.lease_id
    with caplog.at_level(logging.DEBUG, logger="distributor"):
        await agent.send(
            started=[pb.Started(command_id=command_id, lease_id=lease_id)],
            **output(command_id=command_id, lease_id="another"),
            cancel_reports=[
                pb.CancelReport(command_id=command_id, finding=pb.CANCEL_FINDING_UNKNOWN),
                pb.CancelReport(command_id="C2", lease_id="L2", finding=pb.CANCEL_FINDING_STOPPING),
            ],
        )
        await agent.finish(assignment, lease_id="another")
    lines = [line.getMessage() for line in caplog.records]
    for rest in (
        f"lease_id={lease_id} part=started why='said before'",
        "lease_id=another part=output why='another lease is in flight'",
        "lease_id= part=cancel_reports why='no lease'",
    ):
        assert f"part of a message ignored agent_id=agent123 command_id={command_id} {rest}" in lines
    assert (
        "part of a message ignored agent_id=agent123 command_id=C2 lease_id=L2 part=cancel_reports "
        "why='command not in flight'" in lines
    )
    assert f"result not kept agent_id=agent123 command_id={command_id} outcome=stale reason=stale_lease" in lines


async def test_words_about_unknown_commands_change_nothing(server: RunningServer, agent: WireAgent) -> None:
    before = await keyspace(server.settings.valkey_url)
    held: dict[str, Any] = {"command_id": "nonsense", "lease_id": "l"}
    await agent.send(
        received=[pb.Received(**held)],
        started=[pb.Started(**held)],
        refused=[pb.Refused(**held, code=pb.REFUSAL_CODE_BUSY), pb.Refused(**held, code=pb.REFUSAL_CODE_EXPIRED)],
        output=[pb.Output(**held, stream=command_pb2.OUTPUT_STREAM_STDOUT, offset=7, data=b"abc")],
        cancel_reports=[pb.CancelReport(command_id="nonsense", finding=pb.CANCEL_FINDING_UNKNOWN)],
    )
    (answer,) = await agent.until(lambda: agent.output_answers("nonsense"))
    assert (answer.offset, answer.HasField("reason"), answer.lease_id) == (0, True, "l")
    assert await keyspace(server.settings.valkey_url) == before
