"""A relay in front of a Valkey's Unix socket that can be taken away and put back, as a restarted Valkey would be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import unquote


class ValkeyRelay:
    """Relays each connection until it is taken `down`; then connections are refused until it is `up` again."""

    def __init__(self, valkey_url: str, folder: Path) -> None:
        password, _, path = valkey_url.removeprefix("unix://:").partition("@")
        self._target = unquote(path)
        self._socket = folder / "relay.sock"
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.url = f"unix://:{password}@{self._socket}"

    async def up(self) -> None:
        """Accept connections."""
        self._server = await asyncio.start_unix_server(self._relay, self._socket)

    def down(self) -> None:
        """End all connections and refuse new ones."""
        if self._server is not None:
            self._server.close()
            self._socket.unlink(missing_ok=True)
        for writer in self._writers:
            writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(self._target)
        self._writers |= {writer, inner_writer}
        await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
        self._writers -= {writer, inner_writer}


@asynccontextmanager
async def valkey_relay(valkey_url: str, folder: Path) -> AsyncIterator[ValkeyRelay]:
    """A relay to the embedded Valkey at `valkey_url`; its socket is in `folder`."""
    relay = ValkeyRelay(valkey_url, folder)
    await relay.up()
    try:
        yield relay
    finally:
        relay.down()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
