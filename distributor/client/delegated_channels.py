"""Channels whose calls are made on behalf of a user: each carries the user's token and address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from distributor.client.server_channels import Callables, ServerChannels
from distributor.wire.client_address import CLIENT_ADDRESS, ip_address_text
from distributor.wire.credentials import Metadata

ON_BEHALF_OF: Final = "distributor-on-behalf-of"


class DelegatedChannels:
    """Behaves like the channels that it wraps. Owns none of them."""

    def __init__(self, channels: ServerChannels, token: Callable[[], str], address: str = "") -> None:
        """`address` is where the user is; left out unless it is an IP address."""
        self._channels = channels
        self._token = token
        address = ip_address_text(address)
        self._address: Metadata = ((CLIENT_ADDRESS, address),) if address else ()

    def unary_unary(self, method: str, **options: Any) -> Callables:
        """A method with one request and one response."""
        return self._delegated(self._channels.unary_unary(method, **options))

    def unary_stream(self, method: str, **options: Any) -> Callables:
        """A method with one request and many responses."""
        return self._delegated(self._channels.unary_stream(method, **options))

    def _delegated(self, call: Callables) -> Callables:
        def delegated(request: Any, *, timeout: float | None = None, metadata: Metadata = ()) -> Any:
            # Without the token, a server that knows its callers refuses the call, and another serves it.
            own = ((ON_BEHALF_OF, self._token()), *self._address) if self._channels.confidential else ()
            return call(request, timeout=timeout, metadata=(*metadata, *own))

        return delegated
