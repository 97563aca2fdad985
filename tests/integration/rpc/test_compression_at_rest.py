"""What lies compressed in Valkey, and that every server reads both forms."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from valkey.asyncio import Valkey

from distributor.v1 import command_pb2
from distributor.v1 import command_service_pb2 as wire
from tests.support.running_server import COMPLETED, FAILED, RunningServer, running_server
from tests.support.wire_agent import WireAgent, result

LARGE: Final = {"text": "all work and no play makes Jack a dull boy " * 2_000}
"""86 KB of params."""
LINES: Final = b"".join(b"line %d\n" % number for number in range(2_000))
BOMB: Final = gzip.compress(bytes(64 * 1024 * 1024))


@pytest.fixture
async def valkey(valkey_url: str) -> AsyncIterator[Valkey]:
    async with Valkey.from_url(valkey_url) as client:
        yield client


@asynccontextmanager
async def compressing(valkey_url: str, **changes: Any) -> AsyncIterator[RunningServer]:
    async with running_server(valkey_url, stored_compression="gzip", **changes) as server:
        yield server


async def output(server: RunningServer, command_id: str, offset: int = 0) -> bytes:
    """The output of an ended command, from an offset. Fails for a gap."""
    request = wire.WatchCommandRequest(command_id=command_id, output_offset=offset)
    updates = [update async for update in server.commands.WatchCommand(request)]
    assert not any(update.HasField("gap") for update in updates)
    return b"".join(update.output.data for update in updates)


async def run(server: RunningServer, agent: WireAgent) -> str:
    """Run a command with large params, output and result; return its id."""
    command_id = await server.queue(params=LARGE)
    assignment = await agent.next_assignment(command_id)
    assert dict(assignment.command.params.items()) == LARGE
    await agent.start(assignment)
    await agent.print(assignment, LINES[:10_000], 0)
    await agent.print(assignment, LINES[10_000:], 10_000)
    reported = result(assignment, output_bytes=len(LINES))
    reported.data.struct_value.update(LARGE)
    await agent.report(reported)
    return command_id


async def check_readable(server: RunningServer, command_id: str) -> None:
    assert dict((await server.get(command_id)).command.params.items()) == LARGE
    stored = await server.result(command_id)
    assert stored.status == COMPLETED
    assert dict(stored.data.struct_value.items()) == LARGE
    assert await output(server, command_id) == LINES
    for offset in (1, 9_999, 10_000, 10_001, len(LINES) - 1):
        assert await output(server, command_id, offset) == LINES[offset:]


async def test_params_result_and_output_lie_compressed_and_marked(valkey_url: str, valkey: Valkey) -> None:
    async with compressing(valkey_url) as server:
        waiting_id = await server.queue("away", params=LARGE)
        stored = await valkey.get(f"command:queue:{waiting_id}")
        assert stored is not None
        assert len(stored) < 2_000
        command = command_pb2.Command.FromString(gzip.decompress(stored))
        assert dict(command.params.items()) == LARGE

        async with server.agent() as agent:
            command_id = await run(server, agent)
        document = json.loads(await valkey.get(f"cmd:result:{command_id}") or b"")
        assert document["data"] is None
        assert json.loads(gzip.decompress(base64.b64decode(document["dataGzip"]))) == LARGE
        stored_output = await valkey.execute_command("LRANGE", f"command:output:{command_id}", 0, -1)
        heads = [head.split(b" ") for head in stored_output[::2]]
        assert [int(head[0]) for head in heads] == [10_000, len(LINES)]
        assert [int(head[3]) for head in heads] == [10_000, len(LINES) - 10_000]
        assert b"".join(map(gzip.decompress, stored_output[1::2])) == LINES
        await check_readable(server, command_id)
        samples = server.process.metrics.registry.get_sample_value
        for what in ("stored_commands", "stored_results", "stored_output"):
            plain = samples("distributor_compression_plain_bytes_total", {"what": what}) or 0.0
            packed = samples("distributor_compression_compressed_bytes_total", {"what": what}) or 0.0
            assert 0 < packed < plain / 2


async def test_small_items_and_everything_by_default_lie_plain(valkey_url: str, valkey: Valkey) -> None:
    async with compressing(valkey_url) as server, server.agent() as agent:
        command_id = await server.queue(params={"text": "hello"})
        stored = await valkey.get(f"command:queue:{command_id}")
        assert command_pb2.Command.FromString(stored or b"").command_id == command_id
        (assignment,) = await agent.assigned()
        await agent.start(assignment)
        await agent.print(assignment, b"hello\n", 0)
        head, data = await valkey.execute_command("LRANGE", f"command:output:{command_id}", 0, -1)
        assert len(head.split(b" ")) == 3
        assert data == b"hello\n"
    async with running_server(valkey_url) as server:
        command_id = await server.queue("away", params=LARGE)
        stored = await valkey.get(f"command:queue:{command_id}")
        assert command_pb2.Command.FromString(stored or b"").command_id == command_id


@pytest.mark.parametrize("at_first", ["gzip", "off"])
async def test_servers_with_and_without_it_read_what_the_other_wrote(valkey_url: str, at_first: str) -> None:
    then = {"gzip": "off", "off": "gzip"}[at_first]
    async with (
        running_server(valkey_url, stored_compression=at_first) as first,
        running_server(valkey_url, stored_compression=then) as second,
    ):
        async with first.agent() as agent:
            command_id = await run(first, agent)
        await check_readable(second, command_id)
        waiting_id = await first.queue(params=LARGE)
        async with second.agent() as agent:
            assignment = await agent.next_assignment(waiting_id)
            assert dict(assignment.command.params.items()) == LARGE


async def test_output_that_was_sent_again_is_read_once(valkey_url: str) -> None:
    async with compressing(valkey_url) as server, server.agent() as agent:
        command_id = await server.queue()
        (assignment,) = await agent.assigned()
        await agent.start(assignment)
        assert await agent.print(assignment, LINES[:10_000], 0) == 10_000
        # As after a reconnect: it begins before what is stored.
        assert await agent.print(assignment, LINES[5_000:], 5_000) == len(LINES)
        await agent.finish(assignment, output_bytes=len(LINES))
        for offset in (0, 4_999, 5_001, 10_000, 12_000):
            assert await output(server, command_id, offset) == LINES[offset:]


async def test_output_kept_bytes_counts_plain_bytes(valkey_url: str, valkey: Valkey) -> None:
    async with compressing(valkey_url, output_kept_bytes=65_536) as server, server.agent() as agent:
        command_id = await server.queue()
        (assignment,) = await agent.assigned()
        await agent.start(assignment)
        data = (LINES * 5)[:80_000]
        for offset in range(0, 80_000, 10_000):
            await agent.print(assignment, data[offset : offset + 10_000], offset)
        await agent.finish(assignment, output_bytes=80_000)
        assert (await server.result(command_id)).output_dropped_bytes == 10_000
        assert await output(server, command_id, 10_000) == data[10_000:]


async def test_messages_to_agents_stay_below_four_mebibytes(valkey_url: str) -> None:
    """A claim is bounded by what commands take in Valkey, which is here a small part of what they take in a message."""
    async with compressing(valkey_url) as server:
        command_ids = await server.queue_many(20, params={"text": "x" * 250_000})
        async with server.agent(capacity=20) as agent:
            await agent.assigned(20)
            assert agent.command_ids == command_ids
            assert max(message.ByteSize() for message in agent.messages) < 4 * 1024 * 1024


# What other programs, or a fault, may leave there


@pytest.mark.parametrize("stored", [BOMB, BOMB[:1_000], b"\x1f\x8bnonsense"], ids=["bomb", "cut", "nonsense"])
async def test_a_stored_command_that_cannot_be_decompressed_fails(
    valkey_url: str, valkey: Valkey, stored: bytes
) -> None:
    async with running_server(valkey_url) as server:
        command_id = await server.queue(params=LARGE)
        await valkey.set(f"command:queue:{command_id}", stored)
        async with server.agent() as agent:
            ended = await server.result(command_id)
            assert (ended.status, ended.reason.code) == (FAILED, "unreadable_command")
            other_id = await server.queue()
            await agent.next_assignment(other_id)


@pytest.mark.parametrize("packed", [base64.b64encode(BOMB).decode(), "no base64"], ids=["bomb", "no base64"])
async def test_a_stored_result_that_cannot_be_decompressed_is_an_error(
    valkey_url: str, valkey: Valkey, packed: str
) -> None:
    async with compressing(valkey_url) as server, server.agent() as agent:
        command_id = await run(server, agent)
        key = f"cmd:result:{command_id}"
        document = json.loads(await valkey.get(key) or b"")
        await valkey.set(key, json.dumps(document | {"dataGzip": packed}))
        with pytest.raises(Exception, match="the stored result cannot be read"):
            await server.commands.GetResult(wire.GetResultRequest(command_id=command_id))
        assert await server.queue()


@pytest.mark.parametrize(
    ("size", "data"),
    [(b" 67108864", BOMB), (b" 5000", BOMB), (b" 5000", b"no gzip"), (b" many", b""), (b" 1 2", b"")],
    ids=["bomb", "more than it says", "no gzip", "no size", "no head"],
)
async def test_stored_output_that_cannot_be_decompressed_is_a_gap(
    valkey_url: str, valkey: Valkey, size: bytes, data: bytes
) -> None:
    async with compressing(valkey_url) as server, server.agent() as agent:
        command_id = await server.queue()
        (assignment,) = await agent.assigned()
        await agent.start(assignment)
        await agent.print(assignment, LINES[:5_000], 0)
        await agent.print(assignment, LINES[5_000:10_000], 5_000)
        await agent.finish(assignment, output_bytes=10_000)
        key = f"command:output:{command_id}"
        head, *_ = await valkey.execute_command("LRANGE", key, 0, -1)
        await valkey.execute_command("LSET", key, 0, b" ".join(head.split(b" ")[:3]) + size)
        await valkey.execute_command("LSET", key, 1, data)
        request = wire.WatchCommandRequest(command_id=command_id)
        updates = [update async for update in server.commands.WatchCommand(request)]
        assert b"".join(update.output.data for update in updates) == LINES[5_000:10_000]
        (gap,) = (update.gap for update in updates if update.HasField("gap"))
        assert (gap.begin_offset, gap.end_offset) == (0, 5_000)
