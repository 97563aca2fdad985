"""HTTP and WebSockets on one port: what dashboards connect to."""

from __future__ import annotations

import asyncio
from asyncio.transports import BaseTransport
from typing import Final

from starlette.types import ASGIApp
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from distributor.observability.http import HttpEndpoint

CLOSE_SECONDS: Final = 5.0
SHUTDOWN_SECONDS: Final = 2
READ_BYTES: Final = 8_192
"""What is read of a WebSocket before other connections get a turn: some 1,400 of the shortest frames."""


def bridge_endpoint(
    address: str, app: ASGIApp, ping_seconds: float, max_message_bytes: int, close_seconds: float = CLOSE_SECONDS
) -> HttpEndpoint:
    """An endpoint for dashboards, pinged every `ping_seconds`. A longer message ends its connection with 1009.

    A peer has `close_seconds` to answer a close frame before its connection is cut.
    """
    return HttpEndpoint(
        address,
        app,
        setting="listen in [bridge]",
        ws=type("DashboardProtocol", (_DashboardProtocol,), {"close_seconds": close_seconds}),
        ws_max_size=max_message_bytes,
        ws_per_message_deflate=False,
        ws_ping_interval=ping_seconds,
        ws_ping_timeout=ping_seconds,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


class _DashboardProtocol(WebSocketsSansIOProtocol):
    """uvicorn's, which also closes connections whose peer does not read: uvicorn would wait and keep what is queued.

    It accepts a refusal by an HTTP answer as the end of the handshake; uvicorn would log that it never ended.
    """

    close_seconds = CLOSE_SECONDS

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        # uvicorn sets this object as the transport's protocol once this returns.
        self.loop.call_soon(self._read_in_pieces)

    def _read_in_pieces(self) -> None:
        if self.transport.is_closing():
            return
        # uvloop takes a change of the way in which it reads only while it does not.
        self.transport.pause_reading()
        self.transport.set_protocol(_PieceReader(self))
        if not self.read_paused:
            self.transport.resume_reading()

    async def send(self, message: ASGISendEvent) -> None:
        closing = message["type"] == "websocket.close"
        if closing:
            # Do not wait until the transport is empty, which may be never.
            self.writable.set()
        await super().send(message)
        if closing:
            self._abort_later()
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._abort_later()

    def shutdown(self) -> None:
        super().shutdown()
        self._abort_later()

    def _abort_later(self) -> None:
        self.loop.call_later(self.close_seconds, self.transport.abort)


class _PieceReader(asyncio.BufferedProtocol):
    """Feeds a protocol at most READ_BYTES in a turn of the loop; a whole read may hold 43,000 frames."""

    def __init__(self, protocol: WebSocketsSansIOProtocol) -> None:
        self._protocol = protocol
        self._buffer = bytearray(READ_BYTES)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._protocol.data_received(bytes(self._buffer[:nbytes]))

    def eof_received(self) -> None:
        self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()
