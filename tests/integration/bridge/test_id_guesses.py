"""Guessing an id at a bridge tells nothing: what one may not see is answered, and costs, like what does not exist."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from itertools import product
from typing import Any, Final, NamedTuple
from unittest.mock import patch

import pytest

from distributor.bridge.credentials import Credential, CredentialCheck
from distributor.identity.caller import CallerKind
from distributor.identity.permissions import MESSAGES, ROUTES, Need
from distributor.rpc.current_caller import set_current_caller
from distributor.v1 import command_service_pb2 as pb
from tests.support.dashboard_client import DashboardClient
from tests.support.protocol_schema import SCHEMA
from tests.support.running_bridge import TOKEN_KEY, RunningBridge, running_bridge, token_of
from tests.support.running_server import RunningServer, queue_request, running_server
from tests.support.valkey_exchanges import Exchange, Exchanges, exchanges_of, shapes

UNKNOWN_COMMAND: Final = "01999bd2-6f0e-7c41-9f4a-8d2c1f0a7b33"
HIDDEN_AGENT, UNKNOWN_AGENT, AWAY_AGENT = "blue-1", "blue-9", "blue-2"
SMALL_BYTES: Final = 4_000
USER: Final = "rosa"
GRANTS: Final[dict[str, dict[str, Any]]] = {
    "by id": {"agents": ["red-*"]},
    "by label": {"labels": ["team=red"]},
}
Fields = dict[str, Any]

COMMAND_ROUTES: Final = {
    "/api/commands/{command_id}": ["/api/commands/{id}"],
    "/api/commands/{command_id}/output": ["/api/commands/{id}/output", "/api/commands/{id}/output?stream=stdout"],
}
"""Paths made of the id of a command, by route."""
AGENT_ROUTES: Final = {"/api/commands": ["/api/commands?agent={id}"]}
OTHER_ROUTES: Final = {"/api/agents", "/api/{rest:path}"}
"""These name no id."""

COMMAND_MESSAGES: Final[dict[str, list[Callable[[str], Fields]]]] = {
    "command:interrupt commandId": [lambda id: {"commandId": id}],
    "command:retry commandId": [lambda id: {"commandId": id}, lambda id: {"commandId": id, "idempotencyKey": "key"}],
    "subscribe commands": [lambda id: {"commands": [id]}],
    "subscribe output.commandId": [lambda id: {"output": [{"commandId": id}]}],
    "unsubscribe commands": [lambda id: {"commands": [id]}],
    "unsubscribe output": [lambda id: {"output": [id]}],
    "dashboard:connect subscribe.commands": [lambda id: {"subscribe": {"commands": [id]}}],
    "dashboard:connect subscribe.output.commandId": [lambda id: {"subscribe": {"output": [{"commandId": id}]}}],
}
"""Fields of messages that name the id of a command."""
AGENT_MESSAGES: Final[dict[str, list[Callable[[str], Fields]]]] = {
    "command:request agentId": [lambda id: {"agentId": id, "commandType": "PRINT"}],
    "subscribe agents": [lambda id: {"agents": [id]}],
    "subscribe commandsOf": [lambda id: {"commandsOf": [id]}],
    "unsubscribe agents": [lambda id: {"agents": [id]}],
    "unsubscribe commandsOf": [lambda id: {"commandsOf": [id]}],
    "dashboard:connect subscribe.agents": [lambda id: {"subscribe": {"agents": [id]}}],
    "dashboard:connect subscribe.commandsOf": [lambda id: {"subscribe": {"commandsOf": [id]}}],
}


class Answer(NamedTuple):
    """All that a user gets, and what it cost."""

    texts: list[str]
    exchanges: list[Exchange]
    replied_little: bool


class Guesses(NamedTuple):
    """A bridge of a server, and hidden commands."""

    bridge: RunningBridge
    hidden: list[str]


@pytest.fixture
async def guesses(valkey_url: str) -> AsyncIterator[Guesses]:
    """A bridge whose user may not see the one agent, nor two commands: one is queued, the other has ended."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_server(valkey_url, token_key=TOKEN_KEY))
        delegate = token_of(server.settings, "delegate", subject="bridge")
        # Nothing is read but for the user.
        bridge = await stack.enter_async_context(running_bridge(server, agent_sweep=3_600.0, server_token=delegate))
        agent = token_of(server.settings, subject=HIDDEN_AGENT, kind=CallerKind.AGENT)
        await stack.enter_async_context(
            server.agent(HIDDEN_AGENT, labels={"team": "blue"}, credentials=[("authorization", f"Bearer {agent}")])
        )
        yield Guesses(bridge, await hidden_commands(server))


async def hidden_commands(server: RunningServer) -> list[str]:
    ada = [("authorization", f"Bearer {token_of(server.settings, 'admin', subject='ada')}")]
    ids = []
    for agent_id in (HIDDEN_AGENT, AWAY_AGENT):
        response = await server.commands.QueueCommand(queue_request(agent_id, "PING"), metadata=ada)
        ids.append(response.command.command_id)
    await server.commands.CancelCommand(pb.CancelCommandRequest(command_id=ids[1]), metadata=ada)
    return ids


@contextmanager
def noted(subject: str) -> Iterator[Exchanges]:
    """The exchanges that a user's requests cause in the bridge and in the server."""
    of_token = CredentialCheck.of_token

    def noting(self: CredentialCheck, token: str, address: str = "") -> Credential:
        credential = of_token(self, token, address)
        # The tasks that serve it inherit this.
        set_current_caller(credential.caller)
        return credential

    with patch.object(CredentialCheck, "of_token", noting), exchanges_of(subject) as exchanges:
        yield exchanges


def answered(texts: list[str], exchanges: Exchanges, id: str) -> Answer:
    alike = shapes(exchanges, id, HIDDEN_AGENT, UNKNOWN_AGENT, AWAY_AGENT)
    return Answer([text.replace(id, "ID") for text in texts], alike, exchanges.replied_bytes < SMALL_BYTES)


async def got(bridge: RunningBridge, token: str, path: str, id: str) -> Answer:
    with noted(USER) as exchanges:
        answer = await bridge.get(path.format(id=id), token)
    headers = [f"{name}: {value}" for name, value in answer.headers.items() if name != "date"]
    return answered([str(answer.status), answer.body.decode(), *headers], exchanges, id)


async def said(bridge: RunningBridge, token: str, type_: str, fields: Fields, id: str) -> Answer:
    """Say it on a connection of its own, and all that is heard until the next ping is answered."""
    async with bridge.stranger() as dashboard:
        if type_ == "dashboard:connect":
            with noted(USER) as exchanges:
                await dashboard.connect(token, **fields)
                await dashboard.settled()
            return answered(heard(dashboard, 0), exchanges, id)
        with noted(USER) as exchanges:
            await dashboard.connect(token)
            await dashboard.settled()
            exchanges.clear()
            exchanges.replied_bytes, before = 0, len(dashboard.messages)
            await dashboard.say(type_, requestId="guess", **fields)
            if type_.startswith("command:"):
                await dashboard.first("error", requestId="guess")
            await dashboard.settled()
        return answered(heard(dashboard, before), exchanges, id)


def heard(dashboard: DashboardClient, before: int) -> list[str]:
    """What was heard, without what differs each time."""
    different = ("connectionId", "serverTime", "expireTime", "timestamp", "position")
    return [
        str({name: value for name, value in message.items() if name not in different})
        for message in dashboard.messages[before:]
        if message["type"] not in ("pong", "bridge:status")
    ]


@pytest.mark.parametrize("route", [*COMMAND_ROUTES, *AGENT_ROUTES])
async def test_a_path_that_names_what_is_hidden(guesses: Guesses, route: str) -> None:
    of_commands = route in COMMAND_ROUTES
    paths = COMMAND_ROUTES[route] if of_commands else AGENT_ROUTES[route]
    for grants, path in product(GRANTS, paths):
        token = guesses.bridge.token("operator", subject=USER, **GRANTS[grants])
        for hidden in guesses.hidden if of_commands else [HIDDEN_AGENT]:
            known = await got(guesses.bridge, token, path, hidden)
            assert known.replied_little
            assert known.exchanges or not (of_commands or grants == "by label"), "what is compared is not empty"
            assert known == await got(guesses.bridge, token, path, UNKNOWN_COMMAND if of_commands else UNKNOWN_AGENT)


@pytest.mark.parametrize("case", [*COMMAND_MESSAGES, *AGENT_MESSAGES])
async def test_a_message_that_names_what_is_hidden(guesses: Guesses, case: str) -> None:
    type_, of_commands = case.partition(" ")[0], case in COMMAND_MESSAGES
    unknown = UNKNOWN_COMMAND if of_commands else UNKNOWN_AGENT
    for grants, fields in product(GRANTS, COMMAND_MESSAGES[case] if of_commands else AGENT_MESSAGES[case]):
        token = guesses.bridge.token("operator", subject=USER, **GRANTS[grants])
        for hidden in guesses.hidden if of_commands else [HIDDEN_AGENT]:
            known = await said(guesses.bridge, token, type_, fields(hidden), hidden)
            assert known.replied_little
            assert known.exchanges or not of_commands or type_ == "unsubscribe", "what is compared is not empty"
            assert known == await said(guesses.bridge, token, type_, fields(unknown), unknown)


def id_fields(schema: Any, before: str = "") -> Iterator[str]:
    """The fields of a message, at any depth, whose values are the ids of commands and agents."""
    reference = schema.get("$ref", "").rpartition("/")[2]
    if reference in ("agentId", "commandId"):
        yield before
    elif reference:
        yield from id_fields(SCHEMA["$defs"][reference], before)
    for inner in [schema["items"]] if "items" in schema else schema.get("anyOf", []):
        yield from id_fields(inner, before)
    for name, inner in schema.get("properties", {}).items():
        yield from id_fields(inner, f"{before}.{name}" if before else name)


def test_every_message_that_names_an_id_has_a_case() -> None:
    definitions = [SCHEMA["$defs"][one["$ref"].rpartition("/")[2]] for one in SCHEMA["$defs"]["clientMessage"]["oneOf"]]
    named = {
        f"{type_} {field}"
        for definition in definitions
        for type_ in [definition["properties"]["type"]["const"]]
        if MESSAGES[type_] is not Need.ADMIN
        for field in id_fields(definition)
    }
    assert named == {*COMMAND_MESSAGES, *AGENT_MESSAGES}


def test_every_route_of_the_api_has_a_case() -> None:
    routes = {path for path, need in ROUTES.items() if path.startswith("/api/") and need is not Need.ADMIN}
    assert routes == {*COMMAND_ROUTES, *AGENT_ROUTES, *OTHER_ROUTES}
