"""HTTP of peers that need not be polite: each request arrives in bounded time and size, or the connection ends."""

from __future__ import annotations

import asyncio
import ssl
from typing import Final, NamedTuple

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from distributor.wire.http_credentials import PEER_CERTIFICATE

REQUEST_SECONDS: Final = 10.0
"""For a request to arrive, from the first byte or the answer before. uvicorn itself would wait indefinitely."""
MAX_BODY_BYTES: Final = 65_536
"""Of a request, with its framing. Only small forms have a body; uvicorn itself would read without end."""


class HttpLimits(NamedTuple):
    """How long a request may take to arrive, and how large its body may be."""

    request_seconds: float = REQUEST_SECONDS
    body_bytes: int = MAX_BODY_BYTES


DEFAULT_LIMITS: Final = HttpLimits()


class BoundedHttpProtocol(H11Protocol):
    """uvicorn's protocol with a deadline and a limit for requests, one of each per connection."""

    limits = DEFAULT_LIMITS
    _deadline: asyncio.TimerHandle | None = None
    _body_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a request. Requests have the verified certificate of the peer in their state."""
        super().connection_made(transport)
        if certificate := _peer_certificate(transport):
            self.app_state = {**self.app_state, PEER_CERTIFICATE: certificate}
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing more."""
        self._expect_nothing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read; abort the connection if the request has become too large."""
        cycle = self.cycle
        super().data_received(data)
        if self.cycle is not cycle:
            self._body_bytes = 0
        elif self._is_arriving() and cycle is not None and not cycle.response_complete:
            self._body_bytes += len(data)
            if self._body_bytes > self.limits.body_bytes:
                self.transport.abort()
        if not self._is_arriving():
            self._expect_nothing()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Leave the connection to the WebSocket protocol."""
        self._expect_nothing()
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        """Expect the next request; close the connection if this one was answered before all of it arrived."""
        if self.conn.their_state is h11.SEND_BODY:
            self.transport.close()
        super().on_response_complete()
        if not self.transport.is_closing() and self.conn.their_state is h11.IDLE:
            self._expect_request()

    def _is_arriving(self) -> bool:
        return self.conn.their_state in (h11.IDLE, h11.SEND_BODY)

    def _expect_request(self) -> None:
        self._expect_nothing()
        self._deadline = self.loop.call_later(self.limits.request_seconds, self.transport.abort)

    def _expect_nothing(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def bounded_http(limits: HttpLimits) -> type[BoundedHttpProtocol]:
    """The protocol with these limits; uvicorn constructs it for each connection."""
    return type("BoundedHttp", (BoundedHttpProtocol,), {"limits": limits})


def _peer_certificate(transport: asyncio.BaseTransport) -> bytes | None:
    """The certificate that the peer has presented and OpenSSL has verified, in PEM; None without one."""
    connection: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    certificate = None if connection is None else connection.getpeercert(binary_form=True)
    return None if certificate is None else ssl.DER_cert_to_PEM_cert(certificate).encode()
