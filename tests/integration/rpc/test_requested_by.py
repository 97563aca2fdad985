"""Who queued a command: in its record, its lists, its changes and what its agent gets, by any server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from distributor.identity.caller import Caller, CallerKind
from distributor.identity.roles import Role, with_included
from distributor.v1 import command_pb2
from distributor.v1 import command_service_pb2 as pb
from tests.support.known_callers import OPERATOR, KnownCallers, credentials_of
from tests.support.received_errors import error_of
from tests.support.running_server import RunningServer, queue_request, running_server

BRIDGE: Final = Caller(CallerKind.SERVICE, "bridge", with_included([Role.OPERATOR]), on_behalf_of="alice")


@pytest.fixture
async def server(valkey_url: str) -> AsyncIterator[RunningServer]:
    async with running_server(valkey_url, authenticator=KnownCallers(OPERATOR, BRIDGE)) as server:
        yield server


async def queued(server: RunningServer, caller: Caller, **command: Any) -> command_pb2.Command:
    response = await server.commands.QueueCommand(queue_request(**command), metadata=credentials_of(caller))
    found: command_pb2.Command = response.command
    return found


def told(requester: command_pb2.Requester) -> tuple[str, str, str, str]:
    return requester.kind, requester.subject, requester.on_behalf_of, requester.address


async def test_the_caller_is_named_wherever_the_command_is_shown(server: RunningServer) -> None:
    credentials = credentials_of(OPERATOR)
    command = await queued(server, BRIDGE)
    expected = ("service", "bridge", "alice", "127.0.0.1")
    assert told(command.requested_by) == expected
    stored = await server.commands.GetCommand(pb.GetCommandRequest(command_id=command.command_id), metadata=credentials)
    assert told(stored.command.requested_by) == expected
    page = await server.commands.ListCommands(pb.ListCommandsRequest(), metadata=credentials)
    assert told(page.commands[0].requested_by) == expected
    await server.commands.CancelCommand(
        pb.CancelCommandRequest(command_id=command.command_id), metadata=credentials_of(BRIDGE)
    )
    watch: Any = server.commands.WatchCommand(
        pb.WatchCommandRequest(command_id=command.command_id), metadata=credentials, timeout=20
    )
    states = [update.command async for update in watch if update.HasField("command")]
    assert [told(state.requested_by) for state in states] == [expected]


async def test_changes_name_the_caller_at_another_server_as_well(valkey_url: str, server: RunningServer) -> None:
    async with running_server(valkey_url) as other:
        watch: Any = other.commands.WatchCommands(pb.WatchCommandsRequest(), timeout=20)
        assert not (await watch.read()).commands
        command = await queued(server, OPERATOR)
        seen = (await watch.read()).commands[0]
        assert seen.command_id == command.command_id
        assert told(seen.requested_by) == ("user", "olaf", "", "127.0.0.1")


async def test_nobody_is_named_while_authentication_is_off(valkey_url: str) -> None:
    async with running_server(valkey_url) as server:
        response = await server.commands.QueueCommand(queue_request())
        assert not response.command.HasField("requested_by")
        page = await server.commands.ListCommands(pb.ListCommandsRequest())
        assert not page.commands[0].HasField("requested_by")


async def test_a_caller_cannot_name_somebody_else(server: RunningServer) -> None:
    request = queue_request()
    request.command.requested_by.subject = "alice"
    error = await error_of(server.commands.QueueCommand(request, metadata=credentials_of(OPERATOR)))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "REQUESTED_BY_NOT_EMPTY")


async def test_a_command_queued_again_names_who_did_that(server: RunningServer) -> None:
    command = await queued(server, BRIDGE)
    await server.commands.CancelCommand(
        pb.CancelCommandRequest(command_id=command.command_id), metadata=credentials_of(BRIDGE)
    )
    answer = await server.commands.RetryCommands(
        pb.RetryCommandsRequest(command_ids=[command.command_id]), metadata=credentials_of(OPERATOR)
    )
    again = await server.commands.GetCommand(
        pb.GetCommandRequest(command_id=answer.commands[0].new_command_id), metadata=credentials_of(OPERATOR)
    )
    assert told(again.command.requested_by) == ("user", "olaf", "", "127.0.0.1")


async def test_an_agent_is_told_who_asked_and_the_result_does_not_lose_it(valkey_url: str) -> None:
    agent_caller = Caller(CallerKind.AGENT, "agent123")
    async with running_server(valkey_url, authenticator=KnownCallers(OPERATOR, agent_caller)) as server:
        credentials = credentials_of(OPERATOR)
        async with server.agent(credentials=credentials_of(agent_caller)) as agent:
            command = await queued(server, OPERATOR)
            (assignment,) = await agent.assigned()
            assert told(assignment.command.requested_by) == ("user", "olaf", "", "127.0.0.1")
            await agent.start(assignment)
            await agent.finish(assignment)
            watch: Any = server.commands.WatchCommands(
                pb.WatchCommandsRequest(command_ids=[command.command_id]), metadata=credentials, timeout=20
            )
            last = [message.commands[-1] async for message in watch][-1]
            assert last.state.status == command_pb2.COMMAND_STATUS_COMPLETED
            assert told(last.requested_by) == ("user", "olaf", "", "127.0.0.1")
