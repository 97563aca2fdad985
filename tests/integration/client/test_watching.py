"""Waiting and watching, with servers that go away in between."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from distributor import errors
from distributor.client import (
    ClientOptions,
    CommandClient,
    CommandRequest,
    CommandResult,
    CommandStatus,
    CommandSummary,
    OutputChunk,
    OutputGap,
    OutputStream,
    Queued,
    Update,
)
from distributor.model.retry_policy import RetryPolicy
from tests.support.fake_command_service import FAILED, FakeCommandService, serve_fake

EXEC = CommandRequest("a1", "EXEC")


async def queue(client: CommandClient) -> str:
    return (await client.queue(EXEC)).command.command_id


async def queue_many(client: CommandClient, count: int) -> list[str]:
    outcomes = await client.queue_many([EXEC] * count)
    return [outcome.command_id for outcome in outcomes if isinstance(outcome, Queued)]


async def collect(client: CommandClient, command_id: str) -> list[Update]:
    return [update async for update in client.watch(command_id)]


def output(updates: list[Update]) -> bytes:
    return b"".join(update.data for update in updates if isinstance(update, OutputChunk))


async def test_a_watch_tells_everything_in_order(client: CommandClient, service: FakeCommandService) -> None:
    command_id = await queue(client)
    watch = client.watch(command_id)

    first = await anext(watch)
    assert isinstance(first, CommandSummary)
    assert first.state.status is CommandStatus.QUEUED

    service.start(command_id)
    service.write_output(command_id, b"one\xff\n")
    service.write_output(command_id, b"two", stderr=True)
    service.finish(command_id, FAILED, exit_code=3, reason="exit_nonzero")
    rest = [update async for update in watch]

    chunks = [(update.stream, update.offset, update.data) for update in rest if isinstance(update, OutputChunk)]
    assert chunks == [(OutputStream.STDOUT, 0, b"one\xff\n"), (OutputStream.STDERR, 5, b"two")]
    result = rest[-1]
    assert isinstance(result, CommandResult)
    assert (result.status, result.exit_code, result.reason.code) == (CommandStatus.FAILED, 3, "exit_nonzero")


async def test_a_watch_begins_where_asked_and_tells_of_a_gap(
    client: CommandClient, service: FakeCommandService
) -> None:
    command_id = await queue(client)
    for piece in (b"aaaa", b"bbbb", b"cccc"):
        service.write_output(command_id, piece)
    service.drop_output(command_id, 4)
    service.finish(command_id)

    assert output([update async for update in client.watch(command_id, output_offset=6)]) == b"bbcccc"
    everything = await collect(client, command_id)
    assert OutputGap(0, 4) in everything
    assert output(everything) == b"bbbbcccc"
    assert output([update async for update in client.watch(command_id, with_output=False)]) == b""


@pytest.mark.parametrize("cuts", [[1], [2], [3, 0, 1], [0], [5, 1, 1, 1]])
async def test_a_cut_watch_goes_on_where_it_was(
    client: CommandClient, service: FakeCommandService, cuts: list[int]
) -> None:
    command_id = await queue(client)
    service.start(command_id)
    for number in range(5):
        service.write_output(command_id, b"piece %d\n" % number)
    service.finish(command_id, exit_code=0)
    service.cut_streams_after = list(cuts)

    updates = await collect(client, command_id)

    assert output(updates) == b"".join(b"piece %d\n" % number for number in range(5))
    assert sum(isinstance(update, CommandSummary) for update in updates) == 1, "the state came once"
    assert sum(isinstance(update, CommandResult) for update in updates) == 1
    assert service.calls["WatchCommand"] == len(cuts) + 1


async def test_output_that_was_seen_is_not_asked_for_again(client: CommandClient, service: FakeCommandService) -> None:
    command_id = await queue(client)
    service.write_output(command_id, b"12345678")
    service.write_output(command_id, b"90")
    service.finish(command_id)
    service.cut_streams_after = [2]

    await collect(client, command_id)

    assert [request.output_offset for request in service.requests if hasattr(request, "output_offset")] == [0, 8]


async def test_a_watch_survives_a_restart_of_the_server(service: FakeCommandService, port: int) -> None:
    options = ClientOptions(reconnects=RetryPolicy(first_ms=1, most_ms=50))
    async with CommandClient(f"127.0.0.1:{port}", options) as client:
        async with serve_fake(service, port):
            command_id = await queue(client)
            service.write_output(command_id, b"before ")
            watch = client.watch(command_id)
            updates = [await anext(watch), await anext(watch)]
            next_update = asyncio.ensure_future(anext(watch))
        async with serve_fake(service, port):
            service.write_output(command_id, b"after")
            updates.append(await next_update)
            service.finish(command_id)
            updates += [update async for update in watch]

    assert output(updates) == b"before after"
    assert isinstance(updates[-1], CommandResult)


async def test_a_server_that_stays_away_is_given_up(service: FakeCommandService, port: int) -> None:
    options = ClientOptions(reconnects=RetryPolicy(first_ms=1, most_ms=5), give_up_after_seconds=0.05)
    async with CommandClient(f"127.0.0.1:{port}", options) as client:
        async with serve_fake(service, port):
            watch = client.watch(await queue(client))
            await anext(watch)
        with pytest.raises(errors.Unavailable, match="cannot be reached"):
            await anext(watch)


async def test_a_server_that_was_never_there_is_unavailable(port: int) -> None:
    options = ClientOptions(
        calls=RetryPolicy(attempts=2, first_ms=1, most_ms=2), reconnects=RetryPolicy(first_ms=1, most_ms=2)
    )
    async with CommandClient(f"127.0.0.1:{port}", options) as client:
        for call in (
            client.get("01980000-0000-7000-8000-ffffffffffff"),
            client.wait("01980000-0000-7000-8000-ffffffffffff"),
            anext(client.wait_many(["01980000-0000-7000-8000-ffffffffffff"])),
        ):
            with pytest.raises(errors.Unavailable, match=f"the server at 127.0.0.1:{port} cannot be reached") as caught:
                await call
            assert "\n" not in str(caught.value)


async def test_wait_gives_the_result(client: CommandClient, service: FakeCommandService) -> None:
    service.on_queued = lambda command_id: service.finish(command_id, data="done")

    assert (await client.wait(await queue(client))).data == "done"


@pytest.mark.parametrize("many", [False, True])
async def test_waiting_ends_at_the_timeout(client: CommandClient, service: FakeCommandService, many: bool) -> None:
    command_id = await queue(client)

    with pytest.raises(TimeoutError, match="not ended after 0.05 s"):
        await (anext(client.wait_many([command_id], 0.05)) if many else client.wait(command_id, 0.05))


async def test_many_come_as_they_end(client: CommandClient, service: FakeCommandService) -> None:
    ids = await queue_many(client, 3)
    waiting = client.wait_many(ids)
    seen = []
    for command_id in reversed(ids):
        next_ending = asyncio.ensure_future(anext(waiting))
        service.finish(command_id)
        seen.append(await next_ending)

    assert [command_id for command_id, _ in seen] == list(reversed(ids))
    assert {state.status for _, state in seen} == {CommandStatus.COMPLETED}
    with pytest.raises(StopAsyncIteration):
        await anext(waiting)


async def test_thousands_are_waited_for_in_streams_of_a_thousand(
    client: CommandClient, service: FakeCommandService
) -> None:
    service.on_queued = service.finish
    ids = await queue_many(client, 2_500)

    ended = [command_id async for command_id, _ in client.wait_many([*ids, *ids])]

    assert sorted(ended) == sorted(ids), "each once, although asked for twice"
    assert service.calls["WatchCommands"] == 3


async def test_waiting_for_many_survives_cuts_and_asks_only_for_the_rest(
    client: CommandClient, service: FakeCommandService
) -> None:
    ids = await queue_many(client, 3)
    service.finish(ids[0])
    service.cut_streams_after = [1, 0]
    waiting = client.wait_many(ids)

    first, _ = await anext(waiting)
    rest = asyncio.ensure_future(anext(waiting))
    service.finish(ids[1])
    second, _ = await rest
    service.finish(ids[2])
    third, _ = await anext(waiting)

    assert [first, second, third] == ids
    asked = [list(request.command_ids) for request in service.requests if hasattr(request, "command_ids")]
    assert asked == [ids, ids[1:], ids[1:]]


async def test_a_watch_of_many_tells_each_state_of_each_once(
    client: CommandClient, service: FakeCommandService
) -> None:
    ids = await queue_many(client, 2)
    service.finish(ids[0])
    service.cut_streams_after = [2, 2]
    seen = []
    async for summary in client.watch_many(ids):
        status = summary.state.status
        seen.append((ids.index(summary.command_id), status))
        if len(seen) == 2:
            service.start(ids[1])
        elif status is CommandStatus.ASSIGNED:
            service.finish(ids[1])

    assert sorted(seen[:2]) == [(0, CommandStatus.COMPLETED), (1, CommandStatus.QUEUED)]
    assert seen[2:] == [(1, CommandStatus.ASSIGNED), (1, CommandStatus.COMPLETED)]
    assert service.calls["WatchCommands"] > 1


async def test_leaving_a_watch_early_ends_its_stream(client: CommandClient, service: FakeCommandService) -> None:
    command_id = await queue(client)
    async with aclosing(client.watch(command_id)) as watch:
        await anext(watch)
    async with aclosing(client.wait_many([command_id])) as waiting:
        task = asyncio.ensure_future(anext(waiting))
        await service.until(lambda: service.calls["WatchCommands"] == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert (await client.get(command_id)).state.status is CommandStatus.QUEUED
