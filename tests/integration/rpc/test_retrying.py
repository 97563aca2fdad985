"""RetryCommands: ended commands queued again, as new commands."""

from __future__ import annotations

from typing import Any

import pytest
from valkey.asyncio import Valkey

from distributor.dispatch import retrying
from distributor.store import keys
from distributor.v1 import command_pb2
from distributor.v1 import command_service_pb2 as pb
from tests.support.running_server import (
    CANCELLED,
    COMPLETED,
    FAILED,
    QUEUED,
    RunningServer,
    keyspace,
    queue_request,
    running_server,
)

NO_SUCH_ID = "01999bd2-6f0e-7c41-9f4a-8d2c1f0a7b33"
TIMES = {"time_limit": 7, "queue_ttl": 60}


async def ended(server: RunningServer, *statuses: command_pb2.CommandStatus.ValueType, **command: Any) -> list[str]:
    """Ids of commands of one agent that have ended so, in this order of queueing."""
    ids = []
    async with server.agent() as agent:
        for status in statuses:
            command_id = await server.queue(**command)
            await agent.finish(await agent.next_assignment(command_id), status=status)
            ids.append(command_id)
    return ids


async def retried(server: RunningServer, **request: Any) -> pb.RetryCommandsResponse:
    response: pb.RetryCommandsResponse = await server.commands.RetryCommands(pb.RetryCommandsRequest(**request))
    return response


def outcomes(response: pb.RetryCommandsResponse) -> dict[str, str]:
    """New id or reason of the error, by old id."""
    return {one.command_id: one.new_command_id or one.error.reason for one in response.commands}


async def test_a_retry_repeats_the_request_and_names_the_old_command(server: RunningServer) -> None:
    (old,) = await ended(server, FAILED, params={"n": 1}, priority=70, max_runs=3, **TIMES)
    before = await server.get(old)
    response = await retried(server, command_ids=[old])
    assert (response.matched, response.more) == (1, False)
    new = outcomes(response)[old]
    expected = command_pb2.Command()
    expected.CopyFrom(before.command)
    expected.command_id, expected.retry_of = new, old
    got = await server.get(new)
    assert (got.command, got.state.status, got.state.attempt) == (expected, QUEUED, 0)
    assert await server.get(old) == before, "the old command does not change"
    async with server.agent() as agent:
        assert (await agent.next_assignment(new)).command == expected
        await agent.finish(*agent.assignments)
    again = outcomes(await retried(server, command_ids=[new]))[new]
    assert (await server.get(again)).command.retry_of == new


async def test_each_command_has_its_own_outcome(server: RunningServer) -> None:
    unended = await server.queue("away")
    failed, forgotten, unreadable = await ended(server, FAILED, COMPLETED, FAILED)
    async with Valkey.from_url(server.settings.valkey_url) as client:
        await client.delete(keys.AGENT_COMMAND.format(agent_id="agent123", command_id=forgotten))
        await client.set(keys.AGENT_COMMAND.format(agent_id="agent123", command_id=unreadable), b"\xff")
    named = [NO_SUCH_ID, failed, unended, forgotten, unreadable, failed]
    response = await retried(server, command_ids=named)
    found = outcomes(response)
    assert [one.command_id for one in response.commands] == list(dict.fromkeys(named))
    assert (await server.get(found.pop(failed))).command.retry_of == failed
    assert found == {
        NO_SUCH_ID: "UNKNOWN_COMMAND",
        unended: "NOT_ENDED",
        forgotten: "PARAMS_NOT_RETAINED",
        unreadable: "STORE_ERROR",
    }
    assert response.matched == 3


async def test_a_filter_chooses_what_did_not_complete_unless_it_has_statuses(server: RunningServer) -> None:
    completed, failed = await ended(server, COMPLETED, FAILED)
    cancelled = await server.queue()
    await server.commands.CancelCommand(pb.CancelCommandRequest(command_id=cancelled))
    await server.queue()
    here: dict[str, Any] = {"agent_id": "agent123"}
    response = await retried(server, filter=pb.CommandFilter(**here), dry_run=True)
    assert (response.matched, response.more, list(response.commands)) == (2, False, [])
    response = await retried(server, filter=pb.CommandFilter(**here, statuses=[COMPLETED]))
    assert list(outcomes(response)) == [completed]
    response = await retried(server, filter=pb.CommandFilter(**here, statuses=[FAILED, CANCELLED]))
    assert list(outcomes(response)) == [cancelled, failed], "newest first"
    assert list(outcomes(response).values()) == sorted(outcomes(response).values(), reverse=True), "oldest queued first"
    nothing = await retried(server, filter=pb.CommandFilter(agent_id="nobody"))
    assert nothing == pb.RetryCommandsResponse()


async def test_a_dry_run_changes_nothing(server: RunningServer) -> None:
    unended = await server.queue("away")
    (failed,) = await ended(server, FAILED)
    before = await keyspace(server.settings.valkey_url)
    named = await retried(server, command_ids=[failed, unended, NO_SUCH_ID], dry_run=True)
    assert (named.matched, list(named.commands)) == (1, [])
    assert (await retried(server, filter=pb.CommandFilter(type="PRINT"), dry_run=True)).matched == 1
    assert await keyspace(server.settings.valkey_url) == before


async def test_the_limit_takes_the_newest_and_says_that_there_are_more(server: RunningServer) -> None:
    first, second, third = await ended(server, FAILED, FAILED, FAILED)
    where = pb.CommandFilter(statuses=[FAILED])
    response = await retried(server, filter=where, limit=2)
    assert (list(outcomes(response)), response.matched, response.more) == ([third, second], 2, True)
    exactly = await retried(server, filter=where, limit=3, dry_run=True)
    assert (exactly.matched, exactly.more) == (3, False)
    assert first not in outcomes(response)


async def test_the_same_key_repeats_each_command_once(server: RunningServer) -> None:
    old, other = await ended(server, FAILED, FAILED)
    first = await retried(server, command_ids=[old], idempotency_key="key")
    assert await retried(server, command_ids=[old], idempotency_key="key") == first
    both = outcomes(await retried(server, command_ids=[old, other], idempotency_key="key"))
    assert both[old] == outcomes(first)[old]
    assert len(await server.ids()) == 4
    assert outcomes(await retried(server, command_ids=[old], idempotency_key="another"))[old] != both[old]


@pytest.mark.parametrize("read_at_once", [1, 50])
@pytest.mark.parametrize("limit", [1, 2, 3, 4])
async def test_the_same_key_and_filter_never_repeat_what_they_made(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, limit: int, read_at_once: int
) -> None:
    monkeypatch.setattr(retrying, "READ_AT_ONCE", read_at_once)
    await ended(server, FAILED, FAILED)
    request: dict[str, Any] = {"filter": pb.CommandFilter(statuses=[FAILED]), "idempotency_key": "key", "limit": limit}
    first = await retried(server, **request)
    async with server.agent() as agent:
        for one in reversed(first.commands):
            await agent.finish(await agent.next_assignment(one.new_command_id), status=FAILED)
    again = await retried(server, **request)
    made = outcomes(first)
    assert outcomes(again) == made
    assert len(await server.ids()) == 2 + len(made), "no command was queued"
    renewed = await retried(server, filter=pb.CommandFilter(statuses=[FAILED]))
    assert len(renewed.commands) == 2 + len(made), "without the key, they match as any other"


async def test_a_refused_command_names_the_reason(valkey_url: str) -> None:
    async with running_server(valkey_url, queue_limit=1) as server:
        first, second = await ended(server, FAILED, FAILED)
        found = outcomes(await retried(server, command_ids=[first, second]))
        assert (await server.get(found[first])).command.retry_of == first
        assert found[second] == "QUEUE_FULL"


async def test_what_was_stored_compressed_is_repeated(valkey_url: str) -> None:
    async with running_server(valkey_url, stored_compression="gzip", compression_threshold=1) as server:
        (old,) = await ended(server, FAILED, params={"text": "x" * 10_000})
        new = outcomes(await retried(server, command_ids=[old]))[old]
        assert (await server.get(new)).command.params == queue_request(params={"text": "x" * 10_000}).command.params
