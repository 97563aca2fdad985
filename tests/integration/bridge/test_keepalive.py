"""Peers that are there in name only: asked with pings, and let go when they do not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest.mock import patch

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from distributor.bridge.server import READ_BYTES
from tests.support.running_bridge import RunningBridge, running_bridge
from tests.support.running_server import RunningServer
from tests.support.waiting import PATIENCE_SECONDS, until

HANDSHAKE = (
    "GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
PING, CLOSE = 0x89, 0x88


@asynccontextmanager
async def mute_peer(bridge: RunningBridge) -> AsyncIterator[asyncio.StreamReader]:
    """A connected WebSocket that answers nothing, not even pings."""
    reader, writer = await asyncio.open_connection("127.0.0.1", bridge.process.port)
    try:
        writer.write(HANDSHAKE.format(host=bridge.address).encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        yield reader
    finally:
        writer.close()
        await writer.wait_closed()


async def frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The next short frame: its first byte, and what is in it."""
    first, length = await reader.readexactly(2)
    return first, await reader.readexactly(length)


async def test_a_peer_that_answers_no_ping_is_dropped(server: RunningServer) -> None:
    async with (
        running_bridge(server, ping_interval=0.1) as bridge,
        mute_peer(bridge) as reader,
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        opcode, payload = await frame(reader)
        assert (opcode, len(payload)) == (PING, 4)
        opcode, payload = await frame(reader)
        assert (opcode, int.from_bytes(payload[:2], "big")) == (CLOSE, 1011)
        assert await reader.read() == b""
        await until(lambda: bridge.process.parts.endpoint.connections == 0)


async def test_a_peer_that_answers_pings_stays(server: RunningServer) -> None:
    async with running_bridge(server, ping_interval=1.0) as bridge, bridge.dashboard() as dashboard:
        async with mute_peer(bridge) as mute, asyncio.timeout(PATIENCE_SECONDS):
            # By the time that one is dropped, the other was asked as well.
            await mute.read()
        await dashboard.settled()


async def test_a_flood_of_tiny_frames_is_read_in_pieces(bridge: RunningBridge) -> None:
    """Before its sender is known: parsing a whole read of them would hold the loop."""
    pieces: list[int] = []
    real = WebSocketsSansIOProtocol.data_received

    def data_received(self: WebSocketsSansIOProtocol, data: bytes) -> None:
        pieces.append(len(data))
        real(self, data)

    with patch.object(WebSocketsSansIOProtocol, "data_received", data_received):
        reader, writer = await asyncio.open_connection("127.0.0.1", bridge.process.port)
        writer.write(HANDSHAKE.format(host=bridge.address).encode())
        await reader.readuntil(b"\r\n\r\n")
        pieces.clear()
        flood = b"\x89\x80\0\0\0\0" * 100_000 + b"\x88\x80\0\0\0\0"
        writer.write(flood)
        async with asyncio.timeout(PATIENCE_SECONDS):
            answered = await reader.read(-1)
        writer.close()
        await writer.wait_closed()
    assert answered.count(b"\x8a\x00") == 100_000
    assert sum(pieces) == len(flood)
    assert max(pieces) <= READ_BYTES
