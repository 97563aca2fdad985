"""Bytes that no client library sends, on the gRPC port: bounded, and others are served meanwhile."""

from __future__ import annotations

import asyncio
import gzip
import struct
from collections.abc import AsyncIterator
from typing import Final

import grpc
import pytest

from distributor.v1 import command_service_pb2 as pb
from distributor.wire import transport
from distributor.wire.transport import DEFAULT_LIMITS
from tests.support.raw_http2 import (
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    GREETING,
    HEADERS,
    MAX_FRAME_BYTES,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    RawConnection,
    call_headers,
    field,
    frame,
    message,
    opened_call,
    raw_connection,
)
from tests.support.received_errors import error_of
from tests.support.resources import harmless
from tests.support.running_server import RunningServer, queue_request, running_server
from tests.support.waiting import PATIENCE_SECONDS

LIST: Final = "/distributor.v1.CommandService/ListAgents"
CONNECT: Final = "/distributor.v1.AgentGatewayService/Connect"
CHUNK: Final = 50
"""Frames written at a time."""


@pytest.fixture
async def others(server: RunningServer) -> AsyncIterator[None]:
    """Others call all the time, and nothing of an attack remains."""

    async def call() -> None:
        await server.commands.ListAgents(pb.ListAgentsRequest(), timeout=PATIENCE_SECONDS)

    async with harmless(call):
        yield


async def ended(connection: RawConnection) -> bytes:
    """Read until the server closes the connection; return everything that it had sent."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await connection.closed()


async def answer(connection: RawConnection, stream: int = 1) -> bytes:
    """Return the header fields, or the reset, that end a call."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for one in connection.frames():
            if one.stream == stream and (one.kind == RST_STREAM or (one.kind == HEADERS and one.flags & END_STREAM)):
                return one.payload
    raise AssertionError("the connection ended without an answer")


async def flood(connection: RawConnection, frames: list[bytes]) -> None:
    """Write all of it, reading what comes back; stop where the server closes the connection."""
    reading = asyncio.create_task(connection.closed())
    async with asyncio.timeout(PATIENCE_SECONDS):
        for first in range(0, len(frames), CHUNK):
            if not await connection.send(*frames[first : first + CHUNK]):
                break
            # Others run in this event loop, too.
            await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait([reading])


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize(
    "greeting",
    [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", bytes(5_000), PREFACE + bytes([255]) * 9],
    ids=["HTTP/1.1", "TLS", "zeros", "frame of 16 MiB"],
)
async def test_a_stranger_to_http2_is_hung_up_on(server: RunningServer, greeting: bytes) -> None:
    async with raw_connection(server.address, [greeting, bytes(64)]) as connection:
        await ended(connection)


@pytest.mark.parametrize("sent", [b"", PREFACE[:10], PREFACE], ids=["nothing", "half a preface", "no SETTINGS"])
async def test_a_handshake_takes_bounded_time(valkey_url: str, sent: bytes) -> None:
    async with (
        running_server(valkey_url, handshake_timeout=0.3) as server,
        raw_connection(server.address, [sent]) as connection,
        asyncio.timeout(DEFAULT_LIMITS.handshake_ms / 1000 - 2),
    ):
        await connection.closed()


async def test_a_connection_without_calls_is_closed(valkey_url: str) -> None:
    """Although it answers pings; one that has a call stays, and a client connects again for its next call."""
    async with (
        running_server(valkey_url, idle_connection_timeout=0.3) as server,
        server.agent() as agent,
        raw_connection(server.address, GREETING) as connection,
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        async for received in connection.frames():
            if received.kind == GOAWAY:
                break
        else:
            raise AssertionError("it ended without a GOAWAY")
        assert not (await server.agent_info()).HasField("away_since")
        command_id = await server.queue()
        await agent.finish((await agent.assigned())[0])
        assert (await server.result(command_id)).command_id == command_id


@pytest.mark.parametrize("limit", [15_360, 65_536])
async def test_metadata_up_to_the_setting_always_arrives(valkey_url: str, limit: int) -> None:
    """gRPC refuses calls at random above 8 KiB if left alone: those of a bridge with two large tokens."""
    async with running_server(valkey_url, max_metadata_bytes=limit) as server:
        # gRPC adds some 60 bytes of its own.
        fits = (("x-large", "a" * (limit - 256)),)
        for _ in range(50):
            await server.commands.ListAgents(pb.ListAgentsRequest(), metadata=fits)
        call = server.commands.ListAgents(pb.ListAgentsRequest(), metadata=(("x-large", "a" * limit),))
        error = await error_of(call)
        assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "METADATA_TOO_LARGE")
        assert f"the limit is {limit:,} (max_metadata_bytes)" in error.text


async def test_a_message_over_the_setting_is_refused(valkey_url: str) -> None:
    least = 6_815_744
    request = queue_request(params={"text": "x" * (least - 1_000)})
    async with running_server(valkey_url, max_message_bytes=least) as server:
        assert (await error_of(server.commands.QueueCommand(request))).reason == "PARAMS_TOO_LARGE"
        request.idempotency_key = "k" * 1_000
        with pytest.raises(grpc.aio.AioRpcError, match="larger than max"):
            await server.commands.QueueCommand(request)


async def test_a_message_may_not_inflate_beyond_the_setting(valkey_url: str) -> None:
    least = 6_815_744
    plain = queue_request(params={"text": "x" * least}).SerializeToString()
    packed = pb.QueueCommandRequest(gzip=gzip.compress(plain))
    async with running_server(valkey_url, max_message_bytes=least) as server:
        assert (await error_of(server.commands.QueueCommand(packed))).reason == "DECOMPRESSED_TOO_LARGE"
    async with running_server(valkey_url) as server:
        assert (await error_of(server.commands.QueueCommand(packed))).reason == "PARAMS_TOO_LARGE"


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize("length", [0xFFFFFFFF, transport.MAX_MESSAGE_BYTES + 1])
async def test_a_giant_length_prefix_is_refused_before_its_bytes_come(server: RunningServer, length: int) -> None:
    async with raw_connection(server.address, GREETING) as connection:
        await connection.send(opened_call(LIST, 1), frame(DATA, message(b"abc", length), stream=1))
        assert b"Received message larger than max" in await answer(connection)


@pytest.mark.usefixtures("others")
async def test_a_promised_message_takes_no_memory_until_it_comes(server: RunningServer) -> None:
    calls = [opened_call(LIST, 2 * number + 1) for number in range(200)]
    promises = [
        frame(DATA, message(b"abc", transport.MAX_MESSAGE_BYTES), stream=2 * number + 1) for number in range(200)
    ]
    async with raw_connection(server.address, GREETING) as connection:
        await connection.send(*calls, *promises)
        # Handled in order: once this call is answered, the server has seen the promises.
        await connection.send(opened_call(LIST, 401), frame(DATA, message(b""), END_STREAM, 401))
        assert b"grpc-status\x010" in await answer(connection, 401)


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize("path", [LIST, "/grpc.health.v1.Health/Check"])
async def test_large_metadata_is_refused(server: RunningServer, path: str) -> None:
    headers = call_headers(path, *[(f"x-{number}", b"a" * 4_096) for number in range(16)])
    parts = [headers[first : first + MAX_FRAME_BYTES] for first in range(0, len(headers), MAX_FRAME_BYTES)]
    async with raw_connection(server.address, GREETING) as connection:
        await connection.send(
            frame(HEADERS, parts[0], stream=1),
            *(frame(CONTINUATION, part, stream=1) for part in parts[1:-1]),
            frame(CONTINUATION, parts[-1], END_HEADERS, 1),
            frame(DATA, message(b""), END_STREAM, 1),
        )
        # gRPC may have refused it first, in its own words.
        assert b"grpc-status\x018" in await answer(connection)


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize("path", [LIST, CONNECT])
async def test_rapid_reset(server: RunningServer, path: str) -> None:
    """CVE-2023-44487: each call is cancelled at once, so that the limit of calls of a connection counts none."""
    reset = struct.pack(">I", CANCEL)
    frames = [
        opened_call(path, 2 * number + 1) + frame(RST_STREAM, reset, stream=2 * number + 1) for number in range(10_000)
    ]
    async with raw_connection(server.address, GREETING) as connection:
        await flood(connection, frames)


@pytest.mark.usefixtures("others")
async def test_a_flood_of_pings_ends_the_connection(server: RunningServer) -> None:
    async with raw_connection(server.address, GREETING) as connection:
        await connection.send(*[frame(PING, b"12345678")] * 1_000)
        received = await ended(connection)
    assert frame(GOAWAY)[3:4] in received
    assert b"too_many_pings" in received


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize(
    "one", [frame(SETTINGS), frame(WINDOW_UPDATE, struct.pack(">I", 1))], ids=["SETTINGS", "WINDOW_UPDATE"]
)
async def test_floods_of_frames_that_open_no_call(server: RunningServer, one: bytes) -> None:
    async with raw_connection(server.address, GREETING) as connection:
        await flood(connection, [one] * 50_000)


@pytest.mark.usefixtures("others")
async def test_headers_without_end(server: RunningServer) -> None:
    """CONTINUATION frames for as long as the server takes them, 64 MiB at most: it keeps little of them."""
    begun = frame(HEADERS, call_headers(LIST), stream=1)
    more = frame(CONTINUATION, field("x-a", bytes(16_000)), stream=1)
    async with raw_connection(server.address, GREETING) as connection:
        await flood(connection, [begun, *[more] * 4_000])
