"""A server that is stopped and started again on the same port with other settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from tests.support.free_port import free_port
from tests.support.running_server import RunningServer, running_server


class ReplacedServer:
    """At most one server at a time, on one port."""

    def __init__(self, valkey_url: str, port: int, servers: AsyncExitStack) -> None:
        self.port = port
        self._valkey_url = valkey_url
        self._servers = servers

    async def serve(self, host: str = "127.0.0.1", **settings: Any) -> RunningServer:
        """Stop the present server, and start one that listens on this host with these settings."""
        await self._servers.aclose()
        listen = f"{host}:{self.port}"
        return await self._servers.enter_async_context(running_server(self._valkey_url, listen=listen, **settings))


@asynccontextmanager
async def replaced_server(valkey_url: str) -> AsyncIterator[ReplacedServer]:
    """A port for servers, of which the last is stopped at the end. None is started."""
    with free_port() as port:
        async with AsyncExitStack() as servers:
            yield ReplacedServer(valkey_url, port, servers)
