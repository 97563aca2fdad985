"""A TCP server in place of Valkey that always gives the same answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from distributor.store.valkey_connection import ValkeyConnection


@asynccontextmanager
async def answering(reply: bytes) -> AsyncIterator[ValkeyConnection]:
    """A connection to a server whose answer to every command is `reply`; without one it ends the connection."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65_536) and reply:
            writer.write(reply)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    # CLIENT SETINFO is not sent, so that each command has one reply.
    connection = ValkeyConnection(f"valkey://127.0.0.1:{port}?lib_name=&lib_version=", reply_timeout_seconds=1.0)
    try:
        yield connection
    finally:
        await connection.close()
        server.close()
