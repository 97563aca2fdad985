"""Bytes that no browser sends, on the bridge's port: bounded, and others are served meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest

from distributor.bridge.web_session import MAX_BODY_BYTES as MAX_TOKEN_BODY_BYTES
from distributor.observability import http_protocol
from distributor.settings import BridgeSettings
from tests.support.http_bodies import largest_body
from tests.support.raw_http2 import GREETING, RawConnection, raw_connection
from tests.support.resources import harmless
from tests.support.running_bridge import RunningBridge, running_bridge
from tests.support.running_server import RunningServer
from tests.support.waiting import PATIENCE_SECONDS

UPGRADE: Final = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TEXT, CLOSE, PING = 1, 8, 9
HEALTH: Final = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
MIB: Final = 1 << 20


@pytest.fixture
async def others(bridge: RunningBridge) -> AsyncIterator[None]:
    """Others call all the time, and nothing of an attack remains."""

    async def call() -> None:
        assert (await bridge.get("/healthz", None)).status == 200

    async with harmless(call):
        yield


def web_socket_frame(kind: int, payload: bytes, length: int | None = None) -> bytes:
    """Encode a masked frame; `length` is what it claims."""
    size = len(payload) if length is None else length
    head = bytes([128 | size]) if size < 126 else bytes([128 | 127]) + size.to_bytes(8, "big")
    return bytes([128 | kind]) + head + bytes(4) + payload


@asynccontextmanager
async def upgraded(bridge: RunningBridge) -> AsyncIterator[RawConnection]:
    """A WebSocket connection, by hand."""
    async with raw_connection(bridge.address, [UPGRADE]) as connection:
        await connection.read_to(b"\r\n\r\n")
        yield connection


async def ended(connection: RawConnection) -> bytes:
    """Read until the bridge closes the connection; return everything that it had sent."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await connection.closed()


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"400"),
        (b"".join(GREETING), b"404"),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 200_000 + b"\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 50_000 + b"\r\n", b"400"),
    ],
    ids=["TLS", "HTTP/2", "long header field", "many header fields"],
)
async def test_what_is_no_request(bridge: RunningBridge, request_bytes: bytes, status: bytes) -> None:
    async with raw_connection(bridge.address, [request_bytes]) as connection:
        received = await ended(connection)
    # A reset may overtake the answer to a peer that is still sending.
    assert received == b"" or received.startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET / HTTP/1.1\r\nHost: ", b"POST /none HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n", HEALTH + b"GET /"],
    ids=["nothing", "half a field", "no end of the fields", "half of the second request"],
)
async def test_a_request_takes_bounded_time_to_arrive(server: RunningServer, sent: bytes) -> None:
    async with (
        running_bridge(server, http_request_timeout=0.3) as bridge,
        raw_connection(bridge.address, [sent]) as connection,
    ):
        await ended(connection)


async def test_a_request_that_drips_takes_bounded_time(server: RunningServer) -> None:
    async with (
        running_bridge(server, http_request_timeout=0.3) as bridge,
        raw_connection(bridge.address, [b"GET / HTTP/1.1\r\n"]) as connection,
    ):
        closed = asyncio.create_task(ended(connection))
        while not closed.done():
            await connection.send(b"x: y\r\n")
            await asyncio.sleep(0.02)
        await closed


async def test_a_connection_that_keeps_asking_stays_open(server: RunningServer) -> None:
    async with (
        running_bridge(server, http_request_timeout=3.0) as bridge,
        raw_connection(bridge.address) as connection,
    ):
        for _ in range(3):
            await connection.send(HEALTH)
            assert b"200 OK" in await connection.read_to(b"ok\n")
            await asyncio.sleep(1.2)


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize("path", [b"/healthz", b"/ws", b"/api/commands", b"/"])
async def test_a_body_without_end_ends_the_connection(bridge: RunningBridge, path: bytes) -> None:
    head = b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    sent, chunk = 0, b"10000\r\n" + bytes(65_536) + b"\r\n"
    async with raw_connection(bridge.address, [head]) as connection:
        while await connection.send(chunk):
            sent += len(chunk)
            assert sent < 64 * MIB
            await asyncio.sleep(0)


async def test_the_body_of_a_request_is_limited_as_set(server: RunningServer) -> None:
    async with running_bridge(server, max_http_body_bytes=1_048_576) as bridge:
        limits = bridge.process.parts.endpoint.limits
    # By default, 64 KiB.
    assert await largest_body(limits, 32_000, 500_000, 3_000_000) == 500_000


def test_a_body_that_is_accepted_has_room_for_a_token() -> None:
    assert http_protocol.MAX_BODY_BYTES == BridgeSettings().max_http_body_bytes >= 2 * MAX_TOKEN_BODY_BYTES
    assert BridgeSettings().http_request_timeout == http_protocol.REQUEST_SECONDS


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (web_socket_frame(TEXT, b"abc", 1 << 62), 1009),
        (web_socket_frame(7, b"abc"), 1002),
        (b"\x81\x03abc", 1002),
        (web_socket_frame(PING, bytes(126)), 1002),
        (web_socket_frame(TEXT, b"[" * 60_000), 1008),
        (web_socket_frame(TEXT, b'{"type":' * 20_000), 1008),
    ],
    ids=["giant length", "reserved kind", "unmasked", "long ping", "deep list", "deep object"],
)
async def test_frames_that_end_the_connection(bridge: RunningBridge, frames: bytes, code: int) -> None:
    async with upgraded(bridge) as connection:
        await connection.send(frames)
        assert bytes([128 | CLOSE]) == (await connection.read_to(code.to_bytes(2, "big")))[:1]


@pytest.mark.usefixtures("others")
async def test_pings_whose_answers_nobody_reads_are_not_read(bridge: RunningBridge) -> None:
    """Each would leave a pong in memory: 64 MiB of them, if the bridge went on reading."""
    pings = web_socket_frame(PING, bytes(125)) * 1_000
    async with upgraded(bridge) as connection:
        sent = 0
        while sent < 64 * MIB:
            try:
                async with asyncio.timeout(1.0):
                    if not await connection.send(pings):
                        break
            except TimeoutError:
                break
            sent += len(pings)
        assert sent < 32 * MIB, "the bridge reads on"
