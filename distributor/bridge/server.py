"""uvicorn inside the running event loop, serving HTTP and WebSockets on one port."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from distributor.errors import ConfigurationError
from distributor.settings import split_address

MAX_MESSAGE_BYTES: Final = 1_048_576
CLOSE_SECONDS: Final = 5.0
SHUTDOWN_SECONDS: Final = 2


class BridgeServer:
    """Serves an app. Signals stay with the process: whoever starts it stops it."""

    def __init__(self, address: str, app: ASGIApp, ping_seconds: float) -> None:
        self._address = address
        self._app = app
        self._ping_seconds = ping_seconds
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self.port = 0
        """The port in use once started; tells what became of port 0."""

    @property
    def connections(self) -> int:
        """How many connections are open, of any kind."""
        return len(self._server.server_state.connections) if self._server is not None else 0

    async def start(self) -> None:
        """Return once requests are answered. Raises ConfigurationError, naming the port, where it cannot listen."""
        listener = _listen(self._address)
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            http="h11",
            ws=_DashboardProtocol,
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_per_message_deflate=False,
            ws_ping_interval=self._ping_seconds,
            ws_ping_timeout=self._ping_seconds,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]), name="bridge server")
        await self._server.ready.wait()

    async def stop(self) -> None:
        """Close every connection with 1012 and stop listening. Does nothing where it was not started."""
        if self._server is None or self._serving is None:
            return
        self._server.should_exit = True
        await self._serving
        self._server = self._serving = None


class _DashboardProtocol(WebSocketsSansIOProtocol):
    """uvicorn's, but able to part from a peer that does not read: uvicorn would wait for it, and keep what it has."""

    async def send(self, message: ASGISendEvent) -> None:
        closing = message["type"] == "websocket.close"
        if closing:
            # Not after all that waits in the transport has gone, which may be never.
            self.writable.set()
        await super().send(message)
        if closing:
            self._abort_later()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._abort_later()

    def shutdown(self) -> None:
        super().shutdown()
        self._abort_later()

    def _abort_later(self) -> None:
        self.loop.call_later(CLOSE_SECONDS, self.transport.abort)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, and able to say when it serves."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()


def _listen(address: str) -> socket.socket:
    host, port = split_address(address)
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=512
        )
    except OSError as error:
        raise ConfigurationError(
            f"cannot serve dashboards on {address} (listen in [bridge]): {error.strerror or error}",
            reason="CANNOT_LISTEN",
            metadata={"address": address},
        ) from error
