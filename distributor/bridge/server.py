"""HTTP and WebSockets on one port: what dashboards connect to."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from distributor.observability.http import HttpEndpoint

CLOSE_SECONDS: Final = 5.0
SHUTDOWN_SECONDS: Final = 2


def bridge_endpoint(address: str, app: ASGIApp, ping_seconds: float, max_message_bytes: int) -> HttpEndpoint:
    """An endpoint for dashboards, pinged every `ping_seconds`. A longer message ends its connection with 1009."""
    return HttpEndpoint(
        address,
        app,
        setting="listen in [bridge]",
        ws=_DashboardProtocol,
        ws_max_size=max_message_bytes,
        ws_per_message_deflate=False,
        ws_ping_interval=ping_seconds,
        ws_ping_timeout=ping_seconds,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


class _DashboardProtocol(WebSocketsSansIOProtocol):
    """uvicorn's, but able to part from a peer that does not read: uvicorn would wait for it, and keep what it has.

    And one that takes a refusal by an HTTP answer for what it is: uvicorn would log that the handshake never ended.
    """

    async def send(self, message: ASGISendEvent) -> None:
        closing = message["type"] == "websocket.close"
        if closing:
            # Not after all that waits in the transport has gone, which may be never.
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
        self.loop.call_later(CLOSE_SECONDS, self.transport.abort)
