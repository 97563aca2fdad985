"""Guessing an id tells nothing: what one may not see is answered, and costs, like what does not exist."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import Any, Final, NamedTuple

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from distributor.identity.caller import Caller, CallerKind
from distributor.identity.grants import Grant
from distributor.identity.permissions import RPCS, Need
from distributor.identity.roles import Role
from distributor.v1 import command_pb2
from distributor.v1 import command_service_pb2 as pb
from tests.support.known_callers import KnownCallers, credentials_of, user
from tests.support.running_server import RunningServer, queue_request, running_server
from tests.support.valkey_exchanges import Exchange, exchanges_of, shapes
from tests.support.wire_agent import wire_agent

PACKAGE: Final = "/distributor.v1."
COMMANDS: Final = f"{PACKAGE}CommandService/"
ID_FIELD: Final = re.compile(r"(^|_)(command|agent)_ids?$|^retry_of$|^page_token$")
UNKNOWN_COMMAND: Final = "0198c7f2-0000-7000-8000-00000000000a"
HIDDEN_AGENT, UNKNOWN_AGENT, AWAY_AGENT = "blue-1", "blue-9", "blue-2"
BY_ID: Final = user("rita", Role.OPERATOR, grants=(Grant(agents=("red-*",)),))
BY_LABEL: Final = user("lena", Role.OPERATOR, grants=(Grant(labels={"team": "red"}),))
BY_TYPE: Final = user("tina", Role.OPERATOR, grants=(Grant(types=("PRINT",)),))
ADA: Final = user("ada", Role.ADMIN)
AGENT: Final = Caller(CallerKind.AGENT, HIDDEN_AGENT)
LARGE: Final = {"text": Random(1).randbytes(50_000).hex()}
"""Does not become small by compression."""
SMALL_BYTES: Final = 2_000
"""More than the state of a command and the labels of an agent."""


@dataclass(frozen=True)
class Guess:
    """A request made of an id. `endless`: the stream goes on after its first message."""

    request: Callable[[str], Message]
    endless: bool = False


COMMAND_GUESSES: Final[dict[tuple[str, str], list[Guess]]] = {
    ("CancelCommand", "command_id"): [Guess(lambda id: pb.CancelCommandRequest(command_id=id, reason="why"))],
    ("RetryCommands", "command_ids"): [
        Guess(lambda id: pb.RetryCommandsRequest(command_ids=[id])),
        Guess(lambda id: pb.RetryCommandsRequest(command_ids=[id], dry_run=True)),
        Guess(lambda id: pb.RetryCommandsRequest(command_ids=[id], idempotency_key="key")),
    ],
    ("GetCommand", "command_id"): [Guess(lambda id: pb.GetCommandRequest(command_id=id))],
    ("GetResult", "command_id"): [Guess(lambda id: pb.GetResultRequest(command_id=id))],
    ("WatchCommand", "command_id"): [
        Guess(lambda id: pb.WatchCommandRequest(command_id=id)),
        Guess(lambda id: pb.WatchCommandRequest(command_id=id, hold_output=True, output_offset=3)),
        Guess(lambda id: pb.WatchCommandRequest(command_id=id, without_output=True)),
    ],
    ("WatchCommands", "command_ids"): [Guess(lambda id: pb.WatchCommandsRequest(command_ids=[id]))],
    ("QueueCommand", "command.retry_of"): [Guess(lambda id: _queue("red-1", retry_of=id))],
    ("QueueCommands", "requests.command.retry_of"): [Guess(lambda id: _queue_many("red-1", retry_of=id))],
    ("QueueCommand", "command.command_id"): [Guess(lambda id: _queue(HIDDEN_AGENT, command_id=id))],
    ("QueueCommands", "requests.command.command_id"): [Guess(lambda id: _queue_many(HIDDEN_AGENT, command_id=id))],
}
"""By the name of the method, and the field of its request that has the id of a command."""
AGENT_GUESSES: Final[dict[tuple[str, str], list[Guess]]] = {
    ("QueueCommand", "command.agent_id"): [Guess(lambda id: _queue(id)), Guess(lambda id: _queue(id, "PING"))],
    ("QueueCommands", "requests.command.agent_id"): [Guess(lambda id: _queue_many(id))],
    ("RetryCommands", "filter.agent_id"): [
        Guess(lambda id: pb.RetryCommandsRequest(filter=pb.CommandFilter(agent_id=id))),
        Guess(lambda id: pb.RetryCommandsRequest(filter=pb.CommandFilter(agent_id=id), dry_run=True)),
    ],
    ("ListCommands", "filter.agent_id"): [
        Guess(lambda id: pb.ListCommandsRequest(filter=pb.CommandFilter(agent_id=id)))
    ],
    ("WatchCommands", "agent_ids"): [Guess(lambda id: pb.WatchCommandsRequest(agent_ids=[id]), endless=True)],
    ("ListAgents", "page_token"): [Guess(lambda id: pb.ListAgentsRequest(page_token=id))],
    ("GetAgent", "agent_id"): [Guess(lambda id: pb.GetAgentRequest(agent_id=id))],
}
"""The same for the ids of agents."""
ELSEWHERE: Final = {
    ("ListCommands", "page_token"): "its tokens name no id that the caller has not seen, and only the server makes them"
}


def _queue(agent_id: str, type_: str = "PRINT", **fields: Any) -> Message:
    return queue_request(agent_id, type_, **fields)


def _queue_many(agent_id: str, **fields: Any) -> Message:
    return pb.QueueCommandsRequest(requests=[queue_request(agent_id, **fields)])


class Answer(NamedTuple):
    """All that a caller gets, and what it cost."""

    messages: list[bytes]
    code: grpc.StatusCode
    details: str
    trailing: list[tuple[str, bytes]]
    exchanges: list[Exchange]
    replied_little: bool
    """Whether Valkey replied with little, so that reading and parsing it took no time of note."""


@pytest.fixture
async def server(valkey_url: str) -> AsyncIterator[RunningServer]:
    """A server with an agent of another tenant, and commands for it."""
    callers = KnownCallers(BY_ID, BY_LABEL, BY_TYPE, ADA, AGENT)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_server(valkey_url, authenticator=callers))
        agent = wire_agent(server.address, HIDDEN_AGENT, credentials=credentials_of(AGENT), labels={"team": "blue"})
        await stack.enter_async_context(agent)
        yield server


async def hidden_command(server: RunningServer, ended: bool) -> str:
    """The id of a command of another tenant, with large params. One that has ended has a result."""
    request = queue_request(AWAY_AGENT if ended else HIDDEN_AGENT, "PING", params=LARGE)
    response = await server.commands.QueueCommand(request, metadata=credentials_of(ADA))
    command_id: str = response.command.command_id
    if ended:
        await server.commands.CancelCommand(
            pb.CancelCommandRequest(command_id=command_id), metadata=credentials_of(ADA)
        )
    return command_id


async def answer_to(server: RunningServer, caller: Caller, method: str, guess: Guess, id: str) -> Answer:
    """Make a request as any client could, and replace the guessed id in all that comes back."""
    stub: Any = server.channel.unary_stream(
        COMMANDS + method, request_serializer=type(guess.request(id)).SerializeToString
    )
    with exchanges_of(caller.subject) as exchanges:
        call: Any = stub(guess.request(id), metadata=credentials_of(caller), timeout=30)
        messages: list[bytes] = []
        with suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
            async for message in call:
                messages.append(message.replace(id.encode(), b"ID"))
                if guess.endless:
                    call.cancel()
        trailing = [(name, _bytes(value).replace(id.encode(), b"ID")) for name, value in await call.trailing_metadata()]
        exchanges_made = shapes(exchanges, id, HIDDEN_AGENT, UNKNOWN_AGENT, AWAY_AGENT)
        details = (await call.details() or "").replace(id, "ID")
        return Answer(
            messages, await call.code(), details, trailing, exchanges_made, exchanges.replied_bytes < SMALL_BYTES
        )


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


@pytest.mark.parametrize("case", COMMAND_GUESSES, ids=".".join)
async def test_a_hidden_command_is_like_none(server: RunningServer, case: tuple[str, str]) -> None:
    for ended in (False, True):
        hidden = await hidden_command(server, ended)
        for caller, guess in product((BY_ID, BY_LABEL, BY_TYPE), COMMAND_GUESSES[case]):
            known = await answer_to(server, caller, case[0], guess, hidden)
            assert known.replied_little
            assert known.exchanges or case[0].startswith("Queue")
            assert known == await answer_to(server, caller, case[0], guess, UNKNOWN_COMMAND)


@pytest.mark.parametrize("case", AGENT_GUESSES, ids=".".join)
async def test_a_hidden_agent_is_like_none(server: RunningServer, case: tuple[str, str]) -> None:
    for ended in (False, True):
        await hidden_command(server, ended)
    for caller, guess in product((BY_ID, BY_LABEL), AGENT_GUESSES[case]):
        known = await answer_to(server, caller, case[0], guess, HIDDEN_AGENT)
        assert known == await answer_to(server, caller, case[0], guess, UNKNOWN_AGENT)


async def test_what_may_be_seen_is_not_like_none(server: RunningServer) -> None:
    """The comparison sees differences."""
    seen = await hidden_command(server, ended=True)
    for method in ("GetCommand", "GetResult"):
        (guess,) = COMMAND_GUESSES[method, "command_id"]
        known = await answer_to(server, ADA, method, guess, seen)
        unknown = await answer_to(server, ADA, method, guess, UNKNOWN_COMMAND)
        assert (known.code, unknown.code) == (grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND)
        assert known.exchanges
        assert unknown.exchanges
        assert known.trailing != unknown.trailing


def id_fields(message: Descriptor, before: str = "") -> Iterator[str]:
    """The fields of a request, at any depth, that name commands and agents."""
    for field in message.fields:
        if ID_FIELD.search(field.name):
            yield before + field.name
        inner = field.message_type
        if inner is not None and inner.full_name.startswith("distributor."):
            yield from id_fields(inner, f"{before}{field.name}.")


def test_every_request_that_names_an_id_has_a_case() -> None:
    """Those of callers whose grants count: the other roles may see all, and agents only themselves."""
    pool = descriptor_pool.Default()
    assert command_pb2.DESCRIPTOR
    named = {
        (method.rpartition("/")[2], field)
        for method, need in RPCS.items()
        if need in (Need.CALLER, Need.VIEWER, Need.OPERATOR) and method.startswith(PACKAGE)
        for field in id_fields(pool.FindMethodByName(method[1:].replace("/", ".")).input_type)
    }
    assert named == {*COMMAND_GUESSES, *AGENT_GUESSES, *ELSEWHERE}
