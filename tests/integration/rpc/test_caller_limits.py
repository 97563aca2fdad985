"""Limits of single callers on a real server."""

from __future__ import annotations

from distributor.client import ClientOptions, CommandClient, CommandRequest
from distributor.identity.roles import Role
from distributor.v1 import command_service_pb2 as pb
from tests.support.known_callers import KnownCallers, credentials_of, user
from tests.support.received_errors import error_of, error_of_stream
from tests.support.running_server import queue_request, running_server
from tests.support.waiting import eventually

ALICE, BOB = user("alice", Role.OPERATOR), user("bob", Role.OPERATOR)


async def test_a_caller_that_calls_too_fast_is_told_when_to_come_back(valkey_url: str) -> None:
    async with running_server(valkey_url, caller_call_rate=1, caller_burst=3.0) as server:
        for _ in range(3):
            await server.ids()
        error = await error_of(server.commands.ListAgents(pb.ListAgentsRequest()))
        assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "CALL_RATE_EXCEEDED")
        assert error.retry_after_seconds is not None
        assert 0 < error.retry_after_seconds <= 1


async def test_a_caller_that_queues_too_fast_is_told_when_to_come_back(valkey_url: str) -> None:
    async with running_server(valkey_url, caller_command_rate=1, caller_burst=60.0) as server:
        await server.queue_many(60)
        error = await error_of(server.queue())
        assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "COMMAND_RATE_EXCEEDED")
        assert len(await server.ids()) == 60, "reading is not queueing"


async def test_callers_do_not_use_up_what_others_may(valkey_url: str) -> None:
    callers = KnownCallers(ALICE, BOB)
    async with running_server(valkey_url, authenticator=callers, caller_command_rate=1, caller_burst=1.0) as server:
        request = queue_request()
        await server.commands.QueueCommand(request, metadata=credentials_of(ALICE))
        error = await error_of(server.commands.QueueCommand(request, metadata=credentials_of(ALICE)))
        assert "alice" in error.text
        await server.commands.QueueCommand(request, metadata=credentials_of(BOB))


async def test_a_caller_has_only_so_many_unfinished_commands(valkey_url: str) -> None:
    callers = KnownCallers(ALICE, BOB)
    async with running_server(valkey_url, authenticator=callers, caller_commands=2) as server:
        batch = pb.QueueCommandsRequest(requests=[queue_request(f"agent{n}") for n in range(3)])
        answer = await server.commands.QueueCommands(batch, metadata=credentials_of(ALICE))
        first, _, refused = answer.outcomes
        assert [bool(outcome.command_id) for outcome in answer.outcomes] == [True, True, False]
        error = await error_of(server.commands.QueueCommand(queue_request(), metadata=credentials_of(ALICE)))
        assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_COMMANDS")
        assert error.retry_after_seconds == 5
        assert error.text == "alice has 2 commands that have not ended, the limit (caller_commands)"
        assert refused.error.message == error.text
        await server.commands.QueueCommand(queue_request(), metadata=credentials_of(BOB))
        cancel = pb.CancelCommandRequest(command_id=first.command_id)
        await server.commands.CancelCommand(cancel, metadata=credentials_of(ALICE))
        await server.commands.QueueCommand(queue_request(), metadata=credentials_of(ALICE))


async def test_commands_are_not_counted_while_authentication_is_off(valkey_url: str) -> None:
    async with running_server(valkey_url, caller_commands=1) as server:
        assert all(await server.queue_many(3))


async def test_a_caller_has_only_so_many_watches(valkey_url: str) -> None:
    async with running_server(valkey_url, caller_streams=1) as server:
        first = server.commands.WatchCommands(pb.WatchCommandsRequest(agent_ids=["a"]))
        await first.read()
        error = await error_of_stream(server.commands.WatchCommands(pb.WatchCommandsRequest(agent_ids=["a"])))
        assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_STREAMS")
        assert error.retry_after_seconds == 1
        first.cancel()

        async def opens() -> bool:
            again = server.commands.WatchCommands(pb.WatchCommandsRequest(agent_ids=["a"]))
            try:
                await again.read()
            except Exception:  # noqa: BLE001  # the server may not have noticed the end of the first
                return False
            again.cancel()
            return True

        assert await eventually(opens)


async def test_the_client_waits_as_long_as_the_server_says(valkey_url: str) -> None:
    async with running_server(valkey_url, caller_command_rate=20, caller_burst=0.05) as server:
        async with CommandClient(server.address, ClientOptions(call_timeout_seconds=60)) as client:
            for _ in range(5):
                await client.queue(CommandRequest("agent123", "PRINT"))
        assert len(await server.ids()) == 5
