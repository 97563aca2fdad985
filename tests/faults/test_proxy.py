"""The proxy of the campaign does to a connection what it says, and counts it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.faults.campaign.proxy import Proxy
from tests.support.waiting import PATIENCE_SECONDS, until


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()


@asynccontextmanager
async def proxied() -> AsyncIterator[tuple[Proxy, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection through a proxy to a server that sends back what it gets."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Proxy(lambda: [f"127.0.0.1:{port}"]) as proxy, asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        try:
            yield proxy, reader, writer
        finally:
            writer.close()
            server.close()


async def test_it_forwards_both_ways_and_ends_with_the_connection() -> None:
    async with proxied() as (proxy, reader, writer):
        assert (proxy.connections, proxy.caught_bytes) == (1, 0)
        writer.write_eof()
        assert await reader.read() == b""
        await until(lambda: proxy.connections == 0)


@pytest.mark.parametrize("lane", ["up", "down"])
async def test_a_held_direction_delivers_everything_when_it_is_released(lane: str) -> None:
    async with proxied() as (proxy, reader, writer):
        held = getattr(proxy, lane)
        held.hold()
        writer.write(b"later")
        writer.write_eof()
        await until(lambda: held.caught_bytes)
        assert not reader.at_eof()
        held.release()
        assert await reader.read() == b"later"


async def test_a_slow_link_delays_what_passes() -> None:
    async with proxied() as (proxy, reader, writer):
        proxy.up.delay_seconds, proxy.down.bytes_per_second = 0.05, 100.0
        begun = asyncio.get_running_loop().time()
        writer.write(b"12345")
        assert await reader.readexactly(5) == b"12345"
        assert asyncio.get_running_loop().time() - begun >= 0.09
        assert (proxy.up.caught_bytes, proxy.down.caught_bytes) == (5, 5)


async def test_a_cut_resets_connections_and_accepts_new_ones() -> None:
    async with proxied() as (proxy, reader, _):
        assert proxy.cut() == 1
        with pytest.raises(ConnectionResetError):
            await reader.read()
        again_reader, again = await asyncio.open_connection("127.0.0.1", proxy.port)
        again.write(b"again")
        assert await again_reader.readexactly(5) == b"again"
        again.close()


async def test_without_a_target_that_accepts_a_client_is_let_go() -> None:
    async with Proxy(list) as proxy, asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
