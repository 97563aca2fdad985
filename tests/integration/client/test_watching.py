"""Waiting and watching, with servers that go away in between."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing
from itertools import groupby

import pytest

from distributor import errors
from distributor.client import (
    ClientOptions,
    CommandClient,
    CommandRequest,
    CommandResult,
    CommandState,
    CommandStatus,
    OutputChunk,
    OutputGap,
    OutputStream,
    Queued,
    Update,
)
from distributor.model.retry_policy import RetryPolicy
from tests.support.driven_agent import DrivenAgent, driven_agent, resumed_agent
from tests.support.rpc_faults import RpcFaults
from tests.support.running_server import FAILED, running_server

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


async def test_a_watch_tells_everything_in_order(client: CommandClient, server: str) -> None:
    command_id = await queue(client)
    watch = client.watch(command_id)

    first = await anext(watch)
    assert isinstance(first, CommandState)
    assert first.status is CommandStatus.QUEUED

    async with driven_agent(server) as agent:
        await agent.start(command_id)
        await agent.print(command_id, b"one\xff\n")
        await agent.print(command_id, b"two", stderr=True)
        await agent.finish(command_id, FAILED, exit_code=3, reason="exit_nonzero")
    rest = [update async for update in watch]

    chunks = [(update.stream, update.offset, update.data) for update in rest if isinstance(update, OutputChunk)]
    assert chunks == [(OutputStream.STDOUT, 0, b"one\xff\n"), (OutputStream.STDERR, 5, b"two")]
    result = rest[-1]
    assert isinstance(result, CommandResult)
    assert (result.status, result.exit_code, result.reason.code) == (CommandStatus.FAILED, 3, "exit_nonzero")


async def test_a_watch_begins_where_asked_and_tells_of_a_gap(valkey_url: str) -> None:
    pieces = [letter * 32_768 for letter in (b"a", b"b", b"c")]
    async with (
        running_server(valkey_url, output_kept_bytes=65_536) as running,
        driven_agent(running.address) as agent,
        CommandClient(running.address) as client,
    ):
        command_id = await queue(client)
        for piece in pieces:
            await agent.print(command_id, piece)
        await agent.finish(command_id)

        later = [update async for update in client.watch(command_id, output_offset=32_770)]
        everything = await collect(client, command_id)
        without = [update async for update in client.watch(command_id, with_output=False)]

    assert output(later) == pieces[1][2:] + pieces[2]
    assert OutputGap(0, 32_768) in everything
    assert output(everything) == pieces[1] + pieces[2]
    assert output(without) == b""


@pytest.mark.parametrize("cuts", [[1], [2], [3, 0, 1], [0], [5, 1, 1, 1]])
async def test_a_cut_watch_goes_on_where_it_was(
    client: CommandClient, faults: RpcFaults, agent: DrivenAgent, cuts: list[int]
) -> None:
    command_id = await queue(client)
    await agent.start(command_id)
    for number in range(5):
        await agent.print(command_id, b"piece %d\n" % number)
    await agent.finish(command_id, exit_code=0)
    faults.cut_streams_after = list(cuts)

    updates = await collect(client, command_id)

    assert output(updates) == b"".join(b"piece %d\n" % number for number in range(5))
    assert sum(isinstance(update, CommandState) for update in updates) == 1, "the state came once"
    assert sum(isinstance(update, CommandResult) for update in updates) == 1
    assert faults.calls["WatchCommand"] == len(cuts) + 1


async def test_output_that_was_seen_is_not_asked_for_again(
    client: CommandClient, faults: RpcFaults, agent: DrivenAgent
) -> None:
    command_id = await queue(client)
    await agent.print(command_id, b"12345678")
    faults.cut_streams_after = [2]
    watch = client.watch(command_id)
    updates = [await anext(watch), await anext(watch)]

    await agent.print(command_id, b"90")
    await agent.finish(command_id)
    updates += [update async for update in watch]

    assert output(updates) == b"1234567890"
    assert [request.output_offset for request in faults.requests if hasattr(request, "output_offset")] == [0, 8]


async def test_a_watch_survives_a_restart_of_the_server(valkey_url: str, port: int) -> None:
    options = ClientOptions(reconnects=RetryPolicy(first_ms=1, max_ms=50))
    address = f"127.0.0.1:{port}"
    async with CommandClient(address, options) as client:
        async with running_server(valkey_url, listen=address), driven_agent(address) as agent:
            command_id = await queue(client)
            await agent.print(command_id, b"before ")
            held = await agent.assignment(command_id)
            watch = client.watch(command_id)
            updates = [await anext(watch), await anext(watch)]
            next_update = asyncio.ensure_future(anext(watch))
        async with running_server(valkey_url, listen=address), resumed_agent(address, held, 7) as agent:
            await agent.print(command_id, b"after")
            updates.append(await next_update)
            await agent.finish(command_id)
            updates += [update async for update in watch]

    assert output(updates) == b"before after"
    assert isinstance(updates[-1], CommandResult)


async def test_a_server_that_stays_away_is_given_up(valkey_url: str, port: int) -> None:
    options = ClientOptions(reconnects=RetryPolicy(first_ms=1, max_ms=5), give_up_after_seconds=0.05)
    address = f"127.0.0.1:{port}"
    async with CommandClient(address, options) as client:
        async with running_server(valkey_url, listen=address):
            watch = client.watch(await queue(client))
            await anext(watch)
        with pytest.raises(errors.Unavailable, match="cannot be reached"):
            await anext(watch)


async def test_a_server_that_was_never_there_is_unavailable(port: int) -> None:
    options = ClientOptions(
        calls=RetryPolicy(attempts=2, first_ms=1, max_ms=2), reconnects=RetryPolicy(first_ms=1, max_ms=2)
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


async def test_wait_gives_the_result(client: CommandClient, agent: DrivenAgent) -> None:
    agent.finish_each(data="done")

    assert (await client.wait(await queue(client))).data == "done"


@pytest.mark.parametrize("many", [False, True])
async def test_waiting_ends_at_the_timeout(client: CommandClient, many: bool) -> None:
    command_id = await queue(client)

    with pytest.raises(TimeoutError, match="not ended after 0.05 s"):
        await (anext(client.wait_many([command_id], 0.05)) if many else client.wait(command_id, 0.05))


async def test_many_come_as_they_end(client: CommandClient, agent: DrivenAgent) -> None:
    ids = await queue_many(client, 3)
    waiting = client.wait_many(ids)
    seen = []
    for command_id in reversed(ids):
        next_ending = asyncio.ensure_future(anext(waiting))
        await agent.finish(command_id)
        seen.append(await next_ending)

    assert [state.command_id for state in seen] == list(reversed(ids))
    assert {state.status for state in seen} == {CommandStatus.COMPLETED}
    with pytest.raises(StopAsyncIteration):
        await anext(waiting)


async def test_thousands_are_waited_for_in_streams_of_a_thousand(
    client: CommandClient, faults: RpcFaults, agent: DrivenAgent
) -> None:
    ids = []
    for count in (1_000, 1_000, 500):
        ids += (more := await queue_many(client, count))
        await agent.finish_all(more)

    ended = [state.command_id async for state in client.wait_many([*ids, *ids])]

    assert sorted(ended) == sorted(ids), "each once, although asked for twice"
    assert len(ids) == 2_500
    assert faults.calls["WatchCommands"] == 3


async def test_waiting_for_many_survives_cuts_and_asks_only_for_the_rest(
    client: CommandClient, faults: RpcFaults, agent: DrivenAgent
) -> None:
    ids = await queue_many(client, 3)
    await agent.finish(ids[0])
    faults.cut_streams_after = [1, 0]
    waiting = client.wait_many(ids)

    first = await anext(waiting)
    rest = asyncio.ensure_future(anext(waiting))
    await agent.finish(ids[1])
    second = await rest
    await agent.finish(ids[2])
    third = await anext(waiting)

    assert [state.command_id for state in (first, second, third)] == ids
    asked = [list(request.command_ids) for request in faults.requests if hasattr(request, "command_ids")]
    assert asked == [ids, ids[1:], ids[1:]]


async def test_a_watch_of_many_tells_each_state_of_each_once(
    client: CommandClient, faults: RpcFaults, agent: DrivenAgent, server: str
) -> None:
    first, second = await queue(client), (await client.queue(CommandRequest("a2", "EXEC"))).command.command_id
    await agent.finish(first)
    faults.cut_streams_after = [1, 1, 1]
    seen: list[CommandState] = []
    async with AsyncExitStack() as stack:
        async for state in client.watch_many([first, second]):
            assert state not in seen
            seen.append(state)
            if len(seen) == 2:
                other = await stack.enter_async_context(driven_agent(server, "a2"))
                await other.start(second)
            elif state.receipts.started_ms and state.status is CommandStatus.ASSIGNED:
                await other.finish(second)

    assert {summary.command_id for summary in seen[:2]} == {first, second}
    assert [summary.status for summary in seen if summary.command_id == first] == [CommandStatus.COMPLETED]
    states = [summary.status for summary in seen if summary.command_id == second]
    assert [status for status, _ in groupby(states)] == [
        CommandStatus.QUEUED,
        CommandStatus.ASSIGNED,
        CommandStatus.COMPLETED,
    ]
    assert states.count(CommandStatus.COMPLETED) == 1
    assert faults.calls["WatchCommands"] > 1


async def test_leaving_a_watch_early_ends_its_stream(client: CommandClient, faults: RpcFaults) -> None:
    command_id = await queue(client)
    async with aclosing(client.watch(command_id)) as watch:
        await anext(watch)
    async with aclosing(client.wait_many([command_id])) as waiting:
        task = asyncio.ensure_future(anext(waiting))
        await faults.until(lambda: faults.calls["WatchCommands"] == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert (await client.get(command_id)).state.status is CommandStatus.QUEUED
