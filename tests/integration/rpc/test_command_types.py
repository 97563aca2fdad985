"""A server with a policy file: who may send which types where, and with which params."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from distributor.identity.caller import Caller, CallerKind
from distributor.identity.roles import Role
from distributor.v1 import command_service_pb2 as pb
from tests.support.known_callers import KnownCallers, credentials_of, user
from tests.support.received_errors import ToldError, error_of
from tests.support.running_server import RunningServer, queue_request, running_server
from tests.support.waiting import eventually
from tests.support.wire_agent import wire_agent

OPERATOR: Final = user("oda", Role.OPERATOR)
ADMIN: Final = user("ada", Role.ADMIN)
DEPLOYER: Final = user("deploy-1", Role.OPERATOR)
AGENTS: Final = tuple(Caller(CallerKind.AGENT, name) for name in ("db-1", "web-1"))

TYPES: Final = ("PING", "STOP", "PRINT", "BACKUP", "ERASE", "DEPLOY", "TREE")

POLICY: Final = """\
[types.BACKUP]
schema = { properties = { argv = { items = { type = "string" } } } }
agents = ["db-*"]

[types.ERASE]
roles = ["admin"]

[types.DEPLOY]
callers = ["user:deploy-*"]
labels = { team = "web" }

[types.TREE]
schema = { "$ref" = "#/$defs/node", "$defs" = { node = { anyOf = [
  { properties = { child = { "$ref" = "#/$defs/node" } }, required = ["left"] },
  { properties = { child = { "$ref" = "#/$defs/node" } }, required = ["right"] },
] } } }
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    return path


@pytest.fixture
async def server(valkey_url: str, policy: Path) -> AsyncIterator[RunningServer]:
    known = KnownCallers(OPERATOR, ADMIN, DEPLOYER, *AGENTS)
    async with (
        running_server(valkey_url, authenticator=known, policy_file=policy) as server,
        wire_agent(server.address, "db-1", credentials=credentials_of(AGENTS[0]), types=TYPES),
        wire_agent(server.address, "web-1", credentials=credentials_of(AGENTS[1]), labels={"team": "web"}, types=TYPES),
    ):
        yield server


async def queue(server: RunningServer, caller: Caller, agent_id: str, type_: str, **fields: Any) -> str:
    request = queue_request(agent_id, type_, **fields)
    response = await server.commands.QueueCommand(request, metadata=credentials_of(caller))
    command_id: str = response.command.command_id
    return command_id


async def refused(server: RunningServer, caller: Caller, agent_id: str, type_: str, **fields: Any) -> ToldError:
    return await error_of(queue(server, caller, agent_id, type_, **fields))


async def test_params_that_do_not_match_are_refused_with_their_path(server: RunningServer) -> None:
    assert await queue(server, OPERATOR, "db-1", "BACKUP", params={"argv": ["a", "b"]})
    error = await refused(server, OPERATOR, "db-1", "BACKUP", params={"argv": [1]})
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "PARAMS_NOT_VALID")
    assert error.field == "command.params.argv[0]"
    assert error.text == "command.params.argv[0] must be of type string, not number"


async def test_a_type_is_sent_only_by_whom_the_policy_names(server: RunningServer) -> None:
    assert await queue(server, ADMIN, "db-1", "ERASE")
    assert await queue(server, DEPLOYER, "web-1", "DEPLOY")
    for caller, agent_id, type_ in ((OPERATOR, "db-1", "ERASE"), (ADMIN, "web-1", "DEPLOY")):
        error = await refused(server, caller, agent_id, type_)
        assert (error.code, error.reason, error.field) == ("PERMISSION_DENIED", "SENDER_NOT_PERMITTED", "command.type")


async def test_a_type_runs_only_where_the_policy_says(server: RunningServer) -> None:
    for caller, agent_id, type_ in (
        (OPERATOR, "web-1", "BACKUP"),
        (DEPLOYER, "db-1", "DEPLOY"),
        (DEPLOYER, "x", "DEPLOY"),
    ):
        error = await refused(server, caller, agent_id, type_)
        assert (error.code, error.reason) == ("PERMISSION_DENIED", "AGENT_NOT_PERMITTED")
        assert error.field == "command.agent_id"


async def test_a_batch_is_checked_like_single_commands(server: RunningServer) -> None:
    requests = [
        queue_request("db-1", "BACKUP"),
        queue_request("web-1", "BACKUP"),
        queue_request("db-1", "ERASE"),
        queue_request("db-1", "BACKUP", params={"argv": [1]}),
        queue_request("db-1", "PRINT"),
    ]
    batch = pb.QueueCommandsRequest(requests=requests)
    answer = await server.commands.QueueCommands(batch, metadata=credentials_of(OPERATOR))
    reasons = [outcome.error.reason for outcome in answer.outcomes]
    assert reasons == ["", "AGENT_NOT_PERMITTED", "SENDER_NOT_PERMITTED", "PARAMS_NOT_VALID", ""]


async def test_a_retry_is_checked_like_a_new_command(server: RunningServer) -> None:
    command_id = await queue(server, ADMIN, "db-2", "ERASE")
    await server.commands.CancelCommand(pb.CancelCommandRequest(command_id=command_id), metadata=credentials_of(ADMIN))
    again = pb.RetryCommandsRequest(command_ids=[command_id])
    retried = await server.commands.RetryCommands(again, metadata=credentials_of(OPERATOR))
    (outcome,) = retried.commands
    assert outcome.error.reason == "SENDER_NOT_PERMITTED"


async def test_params_that_are_costly_to_check_are_refused(server: RunningServer) -> None:
    params: dict[str, Any] = {"leaf": 1}
    for _ in range(25):
        params = {"child": params}
    error = await refused(server, OPERATOR, "db-1", "TREE", params=params)
    assert (error.code, error.reason, error.field) == ("INVALID_ARGUMENT", "PARAMS_TOO_COMPLEX", "command.params")


async def test_a_call_with_many_costly_commands_is_bounded(server: RunningServer) -> None:
    params: dict[str, Any] = {"leaf": 1}
    for _ in range(25):
        params = {"child": params}
    requests = [queue_request("db-1", "TREE", params=params) for _ in range(100)]
    batch = pb.QueueCommandsRequest(requests=requests)
    answer = await server.commands.QueueCommands(batch, metadata=credentials_of(OPERATOR))
    assert {outcome.error.reason for outcome in answer.outcomes} == {"PARAMS_TOO_COMPLEX"}


async def test_policy_file_is_read_again_when_it_changes(server: RunningServer, policy: Path) -> None:
    assert await queue(server, OPERATOR, "db-1", "PRINT")
    policy.write_text('unlisted = "refuse"\n' + POLICY)

    async def refuses() -> bool:
        try:
            await queue(server, OPERATOR, "db-1", "PRINT")
        except Exception:  # noqa: BLE001 - looked at below
            return True
        return False

    await eventually(refuses)
    error = await refused(server, OPERATOR, "db-1", "PRINT")
    assert (error.code, error.reason, error.field) == ("PERMISSION_DENIED", "TYPE_NOT_REGISTERED", "command.type")
    assert await queue(server, OPERATOR, "db-1", "PING")
