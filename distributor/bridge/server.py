"""The HTTP and WebSocket endpoint for dashboards."""

from __future__ import annotations

import asyncio
from asyncio.transports import BaseTransport
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from distributor.observability.http import HttpEndpoint
from distributor.observability.http_protocol import DEFAULT_LIMITS, HttpLimits
from distributor.wire.certificate_files import CertificateFiles

CLOSE_SECONDS: Final = 5.0
SHUTDOWN_SECONDS: Final = 2
READ_BYTES: Final = 8_192
"""Bytes read from a WebSocket before other connections get a turn: about 1,400 minimal frames."""


@dataclass(frozen=True, slots=True)
class WebSocketLimits:
    """Limits of dashboards' connections.

    Dashboards are pinged every `ping_seconds`; a message of more than `max_message_bytes` is answered by close code
    1009; a peer has `close_seconds` to answer a close frame before its connection is aborted.
    """

    ping_seconds: float
    max_message_bytes: int
    close_seconds: float = CLOSE_SECONDS
    http: HttpLimits = DEFAULT_LIMITS


def bridge_endpoint(
    address: str, app: ASGIApp, limits: WebSocketLimits, tls: CertificateFiles | None = None
) -> HttpEndpoint:
    """The endpoint for dashboards: HTTPS and WSS with `tls`."""
    return HttpEndpoint(
        address,
        app,
        setting="listen in [bridge]",
        tls=tls,
        limits=limits.http,
        ws=type("DashboardProtocol", (_DashboardProtocol,), {"close_seconds": limits.close_seconds}),
        ws_max_size=limits.max_message_bytes,
        ws_per_message_deflate=False,
        ws_ping_interval=limits.ping_seconds,
        ws_ping_timeout=limits.ping_seconds,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


class _DashboardProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol, fixed to close connections whose peer does not read instead of waiting indefinitely.

    Reads no further while answers wait to be read: each ping is answered by a pong, which would pile up.

    Treats an HTTP denial response as the end of the handshake; uvicorn would log an incomplete handshake.
    """

    close_seconds = CLOSE_SECONDS

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        # uvicorn sets this object as the transport's protocol once this returns.
        self.loop.call_soon(self._read_in_pieces)

    def _read_in_pieces(self) -> None:
        if self.transport.is_closing():
            return
        # uvloop accepts a buffered protocol only while reading is paused.
        self.transport.pause_reading()
        self.transport.set_protocol(_PieceReader(self))
        if not self.read_paused:
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # The application may have resumed reading, as its own messages were taken.
        if not self.writable.is_set():
            self.transport.pause_reading()

    async def send(self, message: ASGISendEvent) -> None:
        closing = message["type"] == "websocket.close"
        if closing:
            # Do not wait for the write buffer to drain, which may never happen.
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
    """Feeds a protocol at most READ_BYTES per loop iteration; a full read may hold 43,000 frames."""

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
