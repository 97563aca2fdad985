"""A TCP relay before a server that can hold back what the server says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from distributor.settings import split_address


class HeldLink:
    """Relays connections to `target`. While held, the answers wait; requests pass."""

    def __init__(self, target: str) -> None:
        self.address = ""
        self.hold_after = b""
        """Hold as soon as this passes to the server."""
        self.held = asyncio.Event()
        self._target = target
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()

    def hold(self) -> None:
        """Hold back what the server says from now on."""
        self._open.clear()
        self.held.set()

    def release(self) -> None:
        """Pass it on."""
        self._open.set()

    def cut(self) -> None:
        """End all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        host, port = split_address(self._target)
        try:
            inner_reader, inner_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, inner_writer}
        await asyncio.gather(self._requests(reader, inner_writer), self._answers(inner_reader, writer))
        self._writers -= {writer, inner_writer}

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                if self.hold_after and self.hold_after in data:
                    self.hold_after = b""
                    self.hold()
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def held_link(target: str) -> AsyncIterator[HeldLink]:
    """A link to the server at `target`, "host:port"."""
    link = HeldLink(target)
    server = await asyncio.start_server(link.relay, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    link.address = f"{host}:{port}"
    try:
        yield link
    finally:
        server.close()
        link.release()
        link.cut()
