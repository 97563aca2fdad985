"""Two tenants on one server: what the grants of one exclude does not exist for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from distributor.identity.caller import Caller, CallerKind
from distributor.identity.grants import Grant
from distributor.identity.roles import Role
from distributor.v1 import command_service_pb2 as pb
from tests.support.known_callers import KnownCallers, credentials_of, user
from tests.support.received_errors import error_of, error_of_stream
from tests.support.running_server import COMPLETED, RunningServer, queue_request, running_server
from tests.support.waiting import PATIENCE_SECONDS
from tests.support.wire_agent import wire_agent

RED: Final = user("rita", Role.OPERATOR, grants=(Grant(agents=("red-*",)),))
BLUE: Final = user("bill", Role.OPERATOR, grants=(Grant(labels={"team": "blue"}, types=("EXEC", "PING")),))
NOBODY: Final = user("nora", Role.OPERATOR, grants=())
ALL: Final = user("ada", Role.ADMIN)
AGENTS: Final = tuple(Caller(CallerKind.AGENT, name) for name in ("red-1", "red-2", "blue-1"))
UNKNOWN_ID: Final = "0198c7f2-0000-7000-8000-00000000000a"


@pytest.fixture
async def server(valkey_url: str) -> AsyncIterator[RunningServer]:
    """A server with two agents of the red team and one of the blue."""
    async with (
        running_server(valkey_url, authenticator=KnownCallers(RED, BLUE, NOBODY, ALL, *AGENTS)) as server,
        wire_agent(server.address, "red-1", credentials=credentials_of(AGENTS[0]), labels={"team": "red"}),
        wire_agent(server.address, "red-2", credentials=credentials_of(AGENTS[1]), labels={"team": "red"}),
        wire_agent(server.address, "blue-1", credentials=credentials_of(AGENTS[2]), labels={"team": "blue"}),
    ):
        yield server


async def queued(server: RunningServer, caller: Caller, agent_id: str, type_: str = "PING", **fields: Any) -> str:
    request = queue_request(agent_id, type_, **fields)
    response = await server.commands.QueueCommand(request, metadata=credentials_of(caller))
    command_id: str = response.command.command_id
    return command_id


async def listed(server: RunningServer, caller: Caller, page_size: int = 0, **filter_: Any) -> list[str]:
    request = pb.ListCommandsRequest(page_size=page_size, filter=pb.CommandFilter(**filter_))
    page = await server.commands.ListCommands(request, metadata=credentials_of(caller))
    return [command.command_id for command in page.commands]


async def agents(server: RunningServer, caller: Caller) -> list[str]:
    page = await server.commands.ListAgents(pb.ListAgentsRequest(), metadata=credentials_of(caller))
    return [agent.agent_id for agent in page.agents]


async def test_lists_have_only_what_the_grants_include(server: RunningServer) -> None:
    red, blue = await queued(server, ALL, "red-1"), await queued(server, ALL, "blue-1")
    hidden_type = await queued(server, ALL, "blue-1", "PRINT")
    assert await listed(server, RED) == [red]
    assert await listed(server, BLUE) == [blue]
    assert await listed(server, NOBODY) == []
    assert await listed(server, ALL) == [hidden_type, blue, red]
    assert await listed(server, BLUE, agent_id="red-1") == []
    assert await agents(server, RED) == ["red-1", "red-2"]
    assert await agents(server, BLUE) == ["blue-1"]
    assert await agents(server, NOBODY) == []


async def test_a_page_is_filled_from_behind_what_is_not_seen(server: RunningServer) -> None:
    mine = [await queued(server, ALL, "red-1") for _ in range(3)]
    for _ in range(7):
        await queued(server, ALL, "blue-1")
    assert await listed(server, RED, page_size=2) == mine[:0:-1]
    first = await server.commands.ListCommands(pb.ListCommandsRequest(page_size=2), metadata=credentials_of(RED))
    rest = pb.ListCommandsRequest(page_size=2, page_token=first.next_page_token)
    page = await server.commands.ListCommands(rest, metadata=credentials_of(RED))
    assert ([command.command_id for command in page.commands], page.next_page_token) == (mine[:1], "")
    request = pb.ListAgentsRequest(page_size=1)
    some = await server.commands.ListAgents(request, metadata=credentials_of(RED))
    assert ([agent.agent_id for agent in some.agents], some.next_page_token) == (["red-1"], "red-1")


@pytest.mark.parametrize("method", ["GetCommand", "GetResult", "CancelCommand"])
async def test_another_tenants_command_is_answered_like_one_that_never_was(server: RunningServer, method: str) -> None:
    blue = await queued(server, ALL, "blue-1")
    make = getattr(pb, f"{method}Request")
    call = getattr(server.commands, method)
    hidden = await error_of(call(make(command_id=blue), metadata=credentials_of(RED)))
    unknown = await error_of(call(make(command_id=UNKNOWN_ID), metadata=credentials_of(RED)))
    assert hidden.code == unknown.code == "NOT_FOUND"
    assert hidden.text.replace(blue, "ID") == unknown.text.replace(UNKNOWN_ID, "ID")
    assert hidden.reason == unknown.reason
    assert await listed(server, BLUE, statuses=["COMMAND_STATUS_CANCELLED"]) == []


async def test_watches_of_another_tenants_commands_find_nothing(server: RunningServer) -> None:
    blue = await queued(server, ALL, "blue-1")
    one = server.commands.WatchCommand(pb.WatchCommandRequest(command_id=blue), metadata=credentials_of(RED))
    assert (await error_of_stream(one)).reason == "UNKNOWN_COMMAND"
    many = server.commands.WatchCommands(pb.WatchCommandsRequest(command_ids=[blue]), metadata=credentials_of(RED))
    assert (await error_of_stream(many)).reason == "UNKNOWN_COMMAND"


@pytest.mark.parametrize("agent_ids", [[], ["red-1", "blue-1"]], ids=["everything", "agents"])
async def test_changes_come_only_of_what_the_grants_include(server: RunningServer, agent_ids: list[str]) -> None:
    request = pb.WatchCommandsRequest(agent_ids=agent_ids)
    watch: Any = server.commands.WatchCommands(request, metadata=credentials_of(RED), timeout=20)
    assert not (await watch.read()).commands
    await queued(server, ALL, "blue-1")
    red = await queued(server, ALL, "red-1")
    assert {command.command_id for command in (await watch.read()).commands} == {red}
    watch.cancel()


async def test_a_watch_ends_when_its_agent_leaves_the_grants(server: RunningServer) -> None:
    """Another session of the agent has labels of another tenant."""
    mine = credentials_of(BLUE)
    command_id = await queued(server, ALL, "blue-1")
    one: Any = server.commands.WatchCommand(pb.WatchCommandRequest(command_id=command_id), metadata=mine)
    many: Any = server.commands.WatchCommands(pb.WatchCommandsRequest(command_ids=[command_id]), metadata=mine)
    everything: Any = server.commands.WatchCommands(pb.WatchCommandsRequest(), metadata=mine)
    for call in (one, many, everything):
        await call.read()
    agent = {"credentials": credentials_of(AGENTS[2]), "instance_id": "instance-1"}
    async with asyncio.timeout(PATIENCE_SECONDS):
        async with wire_agent(server.address, "blue-1", labels={"team": "blue", "rack": "2"}, **agent):
            # It is requeued and assigned again: what the grants still include is seen.
            while (await one.read()).command.state.attempt < 2:
                pass
        async with wire_agent(server.address, "blue-1", labels={"team": "red"}, **agent) as moved:
            for call in (one, many):
                error = await error_of_stream(call)
                assert (error.code, error.reason) == ("NOT_FOUND", "UNKNOWN_COMMAND")
            await moved.finish(*await moved.assigned())
        async with wire_agent(server.address, "blue-1", labels={"team": "blue"}, **agent):
            back = await queued(server, ALL, "blue-1")
            seen = [(await everything.read()).commands[0]]
            while seen[-1].command_id != back:
                seen.append((await everything.read()).commands[0])
        assert all(row.state.status != COMPLETED for row in seen)


async def test_commands_are_queued_only_where_a_grant_permits(server: RunningServer) -> None:
    for caller, agent_id, type_ in (
        (RED, "blue-1", "PING"),
        (BLUE, "red-1", "PING"),
        (BLUE, "blue-1", "PRINT"),
        (BLUE, "blue-unknown", "PING"),
        (NOBODY, "red-1", "PING"),
    ):
        call = server.commands.QueueCommand(queue_request(agent_id, type_), metadata=credentials_of(caller))
        assert (await error_of(call)).reason == "NOT_GRANTED", (caller, agent_id, type_)
    batch = pb.QueueCommandsRequest(requests=[queue_request(name) for name in ("red-1", "blue-1", "red-9")])
    answer = await server.commands.QueueCommands(batch, metadata=credentials_of(RED))
    assert [outcome.error.reason for outcome in answer.outcomes] == ["", "NOT_GRANTED", ""]
    assert len(await listed(server, ALL)) == 2


async def test_an_idempotency_key_of_another_tenant_says_nothing(server: RunningServer) -> None:
    for caller, agent_id in ((RED, "red-1"), (BLUE, "blue-1")):
        request = queue_request(agent_id, "PING")
        request.idempotency_key = "the-same"
        for _ in range(2):
            await server.commands.QueueCommand(request, metadata=credentials_of(caller))
    assert len(await listed(server, ALL)) == 2


async def test_retries_count_and_queue_only_what_the_caller_may_send(server: RunningServer) -> None:
    # Agents that are away: their commands end at once.
    ids = {name: await queued(server, ALL, name, "PRINT") for name in ("red-9", "blue-9")}
    for command_id in ids.values():
        await server.commands.CancelCommand(
            pb.CancelCommandRequest(command_id=command_id), metadata=credentials_of(ALL)
        )
    every = pb.RetryCommandsRequest(filter=pb.CommandFilter(type="PRINT"), dry_run=True)
    assert (await server.commands.RetryCommands(every, metadata=credentials_of(RED))).matched == 1
    named = pb.RetryCommandsRequest(command_ids=list(ids.values()))
    answer = await server.commands.RetryCommands(named, metadata=credentials_of(RED))
    assert [one.error.reason for one in answer.commands] == ["", "UNKNOWN_COMMAND"]


async def test_another_tenants_agent_is_answered_like_one_that_never_was(server: RunningServer) -> None:
    hidden = await error_of(
        server.commands.GetAgent(pb.GetAgentRequest(agent_id="blue-1"), metadata=credentials_of(RED))
    )
    unknown = await error_of(
        server.commands.GetAgent(pb.GetAgentRequest(agent_id="blue-9"), metadata=credentials_of(RED))
    )
    assert hidden.reason == unknown.reason == "UNKNOWN_AGENT"
    assert hidden.text.replace("blue-1", "ID") == unknown.text.replace("blue-9", "ID")
