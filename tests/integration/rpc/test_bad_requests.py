"""What callers get wrong: told with code, field, reason and limit, and nothing changes in Valkey."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from distributor.v1 import command_pb2
from distributor.v1 import command_service_pb2 as pb
from distributor.wire.json_values import MAX_DEPTH
from tests.support.received_errors import ToldError, error_of, error_of_stream
from tests.support.running_server import RunningServer, keyspace, queue_request, running_server
from tests.support.waiting import PATIENCE_SECONDS

NO_SUCH_ID = "00000000-0000-7000-8000-000000000000"
STREAMS = ("WatchCommand", "WatchCommands")
METHOD = "/distributor.v1.CommandService/"
UNKNOWN: Any = 99
"""No value of any enum."""


class Mistake(NamedTuple):
    """A request that must fail, and how."""

    name: str
    method: str
    request: Any
    code: str
    field: str
    reason: str
    limit: str
    """A part of the text: the limit, or what is allowed."""


def queueing(name: str, field: str, reason: str, limit: str, **command: Any) -> Mistake:
    request = queue_request(**command)
    return Mistake(name, "QueueCommand", request, "INVALID_ARGUMENT", field, reason, limit)


def asking(name: str, method: str, request: Any, field: str, reason: str, limit: str) -> Mistake:
    return Mistake(name, method, request, "INVALID_ARGUMENT", field, reason, limit)


def retrying(name: str, field: str, reason: str, rule: str, **request: Any) -> Mistake:
    return asking(f"retry {name}", "RetryCommands", pb.RetryCommandsRequest(**request), field, reason, rule)


def nested(levels: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(levels - 1):
        inner = [inner]
    return inner


def objects(levels: int) -> dict[str, Any]:
    inner: dict[str, Any] = {}
    for _ in range(levels - 1):
        inner = {"a": inner}
    return inner


def with_duration(field: str, **duration: int) -> pb.QueueCommandRequest:
    request = queue_request()
    getattr(request.command, field).CopyFrom(Duration(**duration))
    return request


def filter_by_time(field: str, **time: int) -> pb.CommandFilter:
    wanted = pb.CommandFilter()
    getattr(wanted, field).CopyFrom(Timestamp(**time))
    return wanted


def raw(channel: grpc.aio.Channel, method: str) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
    """A method that takes and gives bytes."""
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD + method)
    return call


AGENT_ID = ("command.agent_id", "INVALID_AGENT_ID", "1 to 128 of A-Z a-z 0-9 . _ -")
TYPE = ("command.type", "INVALID_TYPE", "a letter and up to 63 of A-Z a-z 0-9 . _ -")
PRIORITY = ("command.priority", "PRIORITY_OUT_OF_RANGE", "0 to 100")
TIME_LIMIT = ("command.time_limit", "TIME_LIMIT_OUT_OF_RANGE", "1 to 2,592,000,000 ms")
IDLE_LIMIT = ("command.idle_limit", "IDLE_LIMIT_OUT_OF_RANGE", "1 to 2,592,000,000 ms")
QUEUE_TTL = ("command.queue_ttl", "QUEUE_TTL_OUT_OF_RANGE", "1 to 2,592,000,000 ms")
DURATION = ("INVALID_DURATION", "nanos must be within ±999,999,999 and have the sign of seconds")
TIME = ("INVALID_TIMESTAMP", "a time in the years 1 to 9999")
SLOTS = ("command.slots", "SLOTS_OUT_OF_RANGE", "1 to 1,000")
MAX_RUNS = ("command.max_runs", "MAX_RUNS_OUT_OF_RANGE", "1 to 100")
RUNS_BY_REASON = ("command.max_runs_by_reason", "MAX_RUNS_OUT_OF_RANGE", "1 to 100")
KEY = ("idempotency_key", "INVALID_IDEMPOTENCY_KEY", "at most 128 printable ASCII characters")
COMMAND_ID = ("command_id", "INVALID_COMMAND_ID", "must be a command id, not 'x'")
PAGE_TOKEN = ("page_token", "INVALID_PAGE_TOKEN", "not issued by a list call")
LIMIT = ("limit", "LIMIT_OUT_OF_RANGE", "0 to 1,000")
PAGE_SIZE = ("page_size", "PAGE_SIZE_OUT_OF_RANGE", "0 to 1,000")

MISTAKES = [
    queueing("empty agent id", *AGENT_ID, agent_id=""),
    queueing("over-long agent id", *AGENT_ID, agent_id="a" * 129),
    queueing("agent id with a space", *AGENT_ID, agent_id="agent 123"),
    queueing("agent id with a line end", *AGENT_ID, agent_id="agent123\n"),
    queueing("agent id of another alphabet", *AGENT_ID, agent_id="агент"),
    queueing("no type", *TYPE, command_type=""),
    queueing("badly spelt type", *TYPE, command_type="1PING"),
    queueing("over-long type", *TYPE, command_type="P" * 65),
    queueing(
        "unknown type for the agent",
        "command.type",
        "UNSUPPORTED_TYPE",
        "agent 'agent123' has no handler for commands of type 'NOPE'",
        command_type="NOPE",
    ),
    queueing(
        "params over the limit",
        "command.params",
        "PARAMS_TOO_LARGE",
        "the limit is 262,144",
        params={"text": "x" * 262_144},
    ),
    queueing(
        "lists in params one level too deep",
        "command.params.deep" + "[0]" * (MAX_DEPTH - 1),
        "PARAMS_TOO_DEEP",
        "nests deeper than 32 levels",
        params={"deep": nested(MAX_DEPTH)},
    ),
    queueing(
        "objects in params one level too deep",
        "command.params" + ".a" * MAX_DEPTH,
        "PARAMS_TOO_DEEP",
        "nests deeper than 32 levels",
        params=objects(MAX_DEPTH + 1),
    ),
    queueing(
        "params with a number that is none",
        "command.params.a[2]",
        "INVALID_PARAMS",
        "command.params.a[2] is nan, which JSON cannot represent",
        params={"a": [1, 2, math.nan]},
    ),
    queueing(
        "params with infinity",
        "command.params.b.c",
        "INVALID_PARAMS",
        "command.params.b.c is -inf, which JSON cannot represent",
        params={"b": {"c": -math.inf}},
    ),
    asking(
        "time limit of two signs",
        "QueueCommand",
        with_duration("time_limit", seconds=1, nanos=-1),
        "command.time_limit",
        *DURATION,
    ),
    asking(
        "queue TTL of too many nanos",
        "QueueCommand",
        with_duration("queue_ttl", nanos=1_000_000_000),
        "command.queue_ttl",
        *DURATION,
    ),
    queueing("priority above", *PRIORITY, priority=101),
    queueing("priority below", *PRIORITY, priority=-1),
    asking("negative time limit", "QueueCommand", with_duration("time_limit", seconds=-1), *TIME_LIMIT),
    asking("no time at all", "QueueCommand", with_duration("time_limit"), *TIME_LIMIT),
    asking("huge time limit", "QueueCommand", with_duration("time_limit", seconds=315_576_000_000), *TIME_LIMIT),
    asking("zero idle limit", "QueueCommand", with_duration("idle_limit"), *IDLE_LIMIT),
    asking("huge idle limit", "QueueCommand", with_duration("idle_limit", seconds=2_592_001), *IDLE_LIMIT),
    asking("negative queue TTL", "QueueCommand", with_duration("queue_ttl", nanos=-1_000_000), *QUEUE_TTL),
    asking("huge queue TTL", "QueueCommand", with_duration("queue_ttl", seconds=2_592_001), *QUEUE_TTL),
    queueing("too many runs", *MAX_RUNS, max_runs=101),
    queueing("negative runs", *MAX_RUNS, max_runs=-1),
    queueing("too many slots", *SLOTS, slots=1_001),
    queueing("negative slots", *SLOTS, slots=-1),
    queueing("too many runs for a reason", *RUNS_BY_REASON, max_runs_by_reason={"exit_nonzero": 101}),
    queueing("no runs for a reason", *RUNS_BY_REASON, max_runs_by_reason={"exit_nonzero": 0}),
    queueing(
        "runs for what is no reason",
        "command.max_runs_by_reason",
        "INVALID_REASON_CODE",
        "not 'Exit nonzero'",
        max_runs_by_reason={"Exit nonzero": 3},
    ),
    queueing(
        "runs for too many reasons",
        "command.max_runs_by_reason",
        "TOO_MANY_REASONS",
        "has 17 reasons, the limit is 16",
        max_runs_by_reason={f"reason_{number}": 3 for number in range(17)},
    ),
    queueing("key with a space", *KEY, idempotency_key="a key"),
    queueing("over-long key", *KEY, idempotency_key="k" * 129),
    queueing(
        "chosen command id",
        "command.command_id",
        "COMMAND_ID_NOT_EMPTY",
        "must be empty",
        command_id=NO_SUCH_ID,
    ),
    queueing(
        "chosen origin",
        "command.retry_of",
        "RETRY_OF_NOT_EMPTY",
        "set by RetryCommands and must be empty",
        retry_of=NO_SUCH_ID,
    ),
    queueing(
        "unknown enum value",
        "command.offline_policy",
        "UNKNOWN_ENUM_VALUE",
        "no value 99",
        offline_policy=99,
    ),
    Mistake(
        "agent that is away and must not be waited for",
        "QueueCommand",
        queue_request("away", offline_policy=command_pb2.OFFLINE_POLICY_FAIL),
        "FAILED_PRECONDITION",
        "command.agent_id",
        "AGENT_OFFLINE",
        "agent 'away' has never connected",
    ),
    asking(
        "more than 1,000 in a batch",
        "QueueCommands",
        pb.QueueCommandsRequest(requests=[queue_request()] * 1_001),
        "requests",
        "BATCH_TOO_LARGE",
        "1,001 commands, the limit is 1,000; nothing was queued",
    ),
    asking(
        "more than 1,000 in a batch, of which one is malformed",
        "QueueCommands",
        pb.QueueCommandsRequest(requests=[*[queue_request()] * 1_000, queue_request(offline_policy=99)]),
        "requests",
        "BATCH_TOO_LARGE",
        "1,001 commands, the limit is 1,000; nothing was queued",
    ),
    asking("malformed id to get", "GetCommand", pb.GetCommandRequest(command_id="x"), *COMMAND_ID),
    asking("malformed id of a result", "GetResult", pb.GetResultRequest(command_id="x"), *COMMAND_ID),
    asking("malformed id to cancel", "CancelCommand", pb.CancelCommandRequest(command_id="x"), *COMMAND_ID),
    asking("malformed id to watch", "WatchCommand", pb.WatchCommandRequest(command_id="x"), *COMMAND_ID),
    asking(
        "malformed ids to watch",
        "WatchCommands",
        pb.WatchCommandsRequest(command_ids=["x"]),
        "command_ids",
        "INVALID_COMMAND_ID",
        "command id",
    ),
    asking(
        "malformed agent to watch",
        "WatchCommands",
        pb.WatchCommandsRequest(agent_ids=["a b"]),
        "agent_ids",
        "INVALID_AGENT_ID",
        "1 to 128",
    ),
    asking(
        "too many ids to watch",
        "WatchCommands",
        pb.WatchCommandsRequest(command_ids=[f"{n:08x}-0000-7000-8000-000000000000" for n in range(1_001)]),
        "command_ids",
        "TOO_MANY_IDS",
        "the limit is 1,000",
    ),
    asking(
        "negative offset",
        "WatchCommand",
        pb.WatchCommandRequest(command_id=NO_SUCH_ID, output_offset=-1),
        "output_offset",
        "OFFSET_OUT_OF_RANGE",
        "must not be negative",
    ),
    asking(
        "over-long reason",
        "CancelCommand",
        pb.CancelCommandRequest(command_id=NO_SUCH_ID, reason="x" * 1_025),
        "reason",
        "REASON_TOO_LONG",
        "the limit is 1,024",
    ),
    retrying("nothing", "filter", "EMPTY_FILTER", "name command_ids, or set at least one field of filter"),
    retrying("an empty filter", "filter", "EMPTY_FILTER", "at least one field of filter", filter=pb.CommandFilter()),
    retrying(
        "ids and a filter",
        "filter",
        "IDS_AND_FILTER",
        "exclude each other",
        command_ids=[NO_SUCH_ID],
        filter=pb.CommandFilter(type="PING"),
    ),
    retrying("malformed ids", "command_ids", "INVALID_COMMAND_ID", "command id", command_ids=["x"]),
    retrying("too many ids", "command_ids", "TOO_MANY_IDS", "the limit is 1,000", command_ids=[NO_SUCH_ID] * 1_001),
    retrying(
        "what has not ended",
        "filter.statuses",
        "STATUS_NOT_TERMINAL",
        "only commands that have ended can be queued again, filter.statuses has assigned",
        filter=pb.CommandFilter(statuses=[command_pb2.COMMAND_STATUS_FAILED, command_pb2.COMMAND_STATUS_ASSIGNED]),
    ),
    retrying(
        "a malformed agent",
        "filter.agent_id",
        "INVALID_AGENT_ID",
        "1 to 128",
        filter=pb.CommandFilter(agent_id="a b"),
    ),
    retrying("too many", *LIMIT, filter=pb.CommandFilter(type="PING"), limit=1_001),
    retrying("a negative number", *LIMIT, filter=pb.CommandFilter(type="PING"), limit=-1),
    retrying(
        "under an over-long key",
        "idempotency_key",
        "INVALID_IDEMPOTENCY_KEY",
        "at most 100 printable ASCII characters",
        command_ids=[NO_SUCH_ID],
        idempotency_key="k" * 101,
    ),
    asking("malformed page token", "ListCommands", pb.ListCommandsRequest(page_token="no token"), *PAGE_TOKEN),
    asking("page token of nonsense", "ListCommands", pb.ListCommandsRequest(page_token="bm9uc2Vuc2U"), *PAGE_TOKEN),
    asking("page token that is no number", "ListCommands", pb.ListCommandsRequest(page_token="MV8wIHg"), *PAGE_TOKEN),
    asking("negative page size", "ListCommands", pb.ListCommandsRequest(page_size=-1), *PAGE_SIZE),
    asking("huge page size", "ListCommands", pb.ListCommandsRequest(page_size=1_001), *PAGE_SIZE),
    asking(
        "filter by a malformed agent",
        "ListCommands",
        pb.ListCommandsRequest(filter=pb.CommandFilter(agent_id="a b")),
        "filter.agent_id",
        "INVALID_AGENT_ID",
        "1 to 128",
    ),
    asking(
        "filter by a malformed type",
        "ListCommands",
        pb.ListCommandsRequest(filter=pb.CommandFilter(type="1PING")),
        "filter.type",
        "INVALID_TYPE",
        "a letter and up to 63",
    ),
    asking(
        "filter by an unknown status",
        "ListCommands",
        pb.ListCommandsRequest(filter=pb.CommandFilter(statuses=[UNKNOWN])),
        "filter.statuses",
        "UNKNOWN_ENUM_VALUE",
        "no value 99",
    ),
    *(
        asking(
            f"filter by a malformed time, {field}, {time}",
            "ListCommands",
            pb.ListCommandsRequest(filter=filter_by_time(field, **time)),
            f"filter.{field}",
            *TIME,
        )
        for field in ("queued_after", "queued_before")
        for time in ({"seconds": 10**17}, {"seconds": 1, "nanos": 1_000_000_000}, {"seconds": 1, "nanos": -5})
    ),
    asking(
        "filter by no time",
        "ListCommands",
        pb.ListCommandsRequest(
            filter=pb.CommandFilter(queued_after=Timestamp(seconds=10), queued_before=Timestamp(seconds=10))
        ),
        "filter",
        "EMPTY_TIME_RANGE",
        "must be after",
    ),
    asking("malformed page token of agents", "ListAgents", pb.ListAgentsRequest(page_token="a b"), *PAGE_TOKEN),
    asking("huge page of agents", "ListAgents", pb.ListAgentsRequest(page_size=1_001), *PAGE_SIZE),
    asking(
        "agents of an unknown status",
        "ListAgents",
        pb.ListAgentsRequest(statuses=[UNKNOWN]),
        "statuses",
        "UNKNOWN_ENUM_VALUE",
        "no value 99",
    ),
    asking(
        "malformed agent id",
        "GetAgent",
        pb.GetAgentRequest(agent_id="a b"),
        "agent_id",
        "INVALID_AGENT_ID",
        "1 to 128",
    ),
    Mistake(
        "unknown agent",
        "GetAgent",
        pb.GetAgentRequest(agent_id="nobody"),
        *("NOT_FOUND", "agent_id", "UNKNOWN_AGENT", "agent 'nobody' has never connected"),
    ),
    *(
        Mistake(
            f"unknown command id, {method}",
            method,
            request,
            *("NOT_FOUND", "command_id", "UNKNOWN_COMMAND", f"there is no command {NO_SUCH_ID}"),
        )
        for method, request in (
            ("GetCommand", pb.GetCommandRequest(command_id=NO_SUCH_ID)),
            ("GetResult", pb.GetResultRequest(command_id=NO_SUCH_ID)),
            ("CancelCommand", pb.CancelCommandRequest(command_id=NO_SUCH_ID)),
            ("WatchCommand", pb.WatchCommandRequest(command_id=NO_SUCH_ID)),
            ("WatchCommands", pb.WatchCommandsRequest(command_ids=[NO_SUCH_ID])),
        )
    ),
]


async def failure(server: RunningServer, mistake: Mistake) -> ToldError:
    call = getattr(server.commands, mistake.method)(mistake.request, timeout=PATIENCE_SECONDS)
    return await (error_of_stream(call) if mistake.method in STREAMS else error_of(call))


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
async def test_is_told_and_changes_nothing(server: RunningServer, mistake: Mistake) -> None:
    async with server.agent() as agent:
        await server.queue("another-agent")
        before = await keyspace(server.settings.valkey_url)
        error = await failure(server, mistake)
        assert (error.code, error.field, error.reason) == (mistake.code, mistake.field, mistake.reason)
        assert mistake.limit in error.text
        assert len(error.text) < 400
        assert await keyspace(server.settings.valkey_url) == before
        await agent.leave()


async def test_in_a_batch_each_mistake_is_told_where_it_is_and_the_others_are_queued(server: RunningServer) -> None:
    async with server.agent(types=["PRINT"]) as agent:
        mistakes = [mistake for mistake in MISTAKES if mistake.method == "QueueCommand"]
        requests = [request for mistake in mistakes for request in (mistake.request, queue_request("good"))]
        response = await server.commands.QueueCommands(pb.QueueCommandsRequest(requests=requests))
        assert len(response.outcomes) == len(requests)
        for mistake, outcome, good in zip(mistakes, response.outcomes[::2], response.outcomes[1::2], strict=True):
            error = outcome.error
            assert (error.code, error.field, error.reason) == (mistake.code, mistake.field, mistake.reason)
            assert mistake.limit in error.message
            assert good.WhichOneof("outcome") == "command_id"
        for agent_id, count in (("good", len(mistakes)), ("agent123", 0), ("away", 0)):
            wanted = pb.ListCommandsRequest(page_size=1_000, filter=pb.CommandFilter(agent_id=agent_id))
            assert len((await server.commands.ListCommands(wanted)).commands) == count
        await agent.leave()


async def test_a_full_queue(valkey_url: str) -> None:
    async with running_server(valkey_url, queue_limit=2) as server:
        await server.queue_many(2)
        before = await keyspace(valkey_url)
        error = await error_of(server.commands.QueueCommand(queue_request()))
        assert (error.code, error.field, error.reason) == ("RESOURCE_EXHAUSTED", "command.agent_id", "QUEUE_FULL")
        assert error.text == "the queue of agent 'agent123' is full: 2 commands wait, the queue_limit"
        assert error.retry_after_seconds is not None
        assert await keyspace(valkey_url) == before


@pytest.mark.parametrize("method", ["QueueCommand", "QueueCommands", "GetCommand", "ListCommands", "CancelCommand"])
@pytest.mark.parametrize(
    "request_bytes",
    [b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\xff\xff\xff"],
    ids=["length beyond the end", "no field number"],
)
async def test_bytes_that_are_no_message(server: RunningServer, method: str, request_bytes: bytes) -> None:
    await server.queue()
    before = await keyspace(server.settings.valkey_url)
    error = await error_of(raw(server.channel, method)(request_bytes))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "MALFORMED_MESSAGE")
    assert "not a valid protobuf message" in error.text
    assert await keyspace(server.settings.valkey_url) == before


async def test_bytes_that_are_no_message_to_a_watch(server: RunningServer) -> None:
    watch: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = server.channel.unary_stream(METHOD + "WatchCommand")
    error = await error_of_stream(watch(b"\xff\xff\xff"))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "MALFORMED_MESSAGE")


async def test_text_that_is_not_utf8(server: RunningServer) -> None:
    before = await keyspace(server.settings.valkey_url)
    request = queue_request(params={"text": "xxxx"}).SerializeToString().replace(b"xxxx", b"\xc3\x28\xff\xfe")
    error = await error_of(raw(server.channel, "QueueCommand")(request))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "MALFORMED_MESSAGE")
    assert "not UTF-8" in error.text
    assert await keyspace(server.settings.valkey_url) == before


@pytest.mark.parametrize("method", ["QueueCommand", "QueueCommands"])
async def test_params_deeper_than_parsers_go(server: RunningServer, method: str) -> None:
    batch = pb.QueueCommandsRequest()
    # Filled in place: to copy it is to parse it.
    request = batch.requests.add() if method == "QueueCommands" else pb.QueueCommandRequest()
    request.command.agent_id, request.command.type = "agent123", "PING"
    request.command.params.update(objects(MAX_DEPTH + 2))
    encoded = (batch if method == "QueueCommands" else request).SerializeToString()
    error = await error_of(raw(server.channel, method)(encoded))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "NESTED_TOO_DEEP")
    assert "may nest 32 levels deep" in error.text


async def test_a_message_over_the_size_limit(server: RunningServer) -> None:
    before = await keyspace(server.settings.valkey_url)
    too_much = bytes(8 * 1024 * 1024 + 1)
    async with grpc.aio.insecure_channel(server.address) as unlimited:
        error = await error_of(raw(unlimited, "QueueCommand")(too_much))
    assert error.code == "RESOURCE_EXHAUSTED"
    assert "larger than max (8388609 vs. 8388608)" in error.text
    assert await keyspace(server.settings.valkey_url) == before


async def test_a_method_that_does_not_exist(server: RunningServer) -> None:
    error = await error_of(raw(server.channel, "DropEverything")(b""))
    assert error.code == "UNIMPLEMENTED"
