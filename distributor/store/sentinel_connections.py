"""Connections to the primary that Sentinels name. The driver asks them before each connection."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from valkey.asyncio import SSLConnection
from valkey.asyncio.connection import AbstractConnection, parse_url
from valkey.asyncio.retry import Retry
from valkey.asyncio.sentinel import Sentinel, SentinelConnectionPool
from valkey.backoff import NoBackoff

from distributor.settings.store_address import StoreAddress

SENTINEL_TIMEOUT_SECONDS: Final = 1.0
"""For one Sentinel to answer; then the next one is asked."""


class SentinelFactory:
    """Makes connections to the primary of the moment. One event loop."""

    def __init__(self, address: StoreAddress, options: dict[str, Any]) -> None:
        """`options` are the driver's for connections to the primary. Raises ValueError for options it does not know."""
        parsed = dict(parse_url(address.url_of(address.hosts[0])))
        parsed.pop("host"), parsed.pop("port")
        if parsed.pop("connection_class", None) is SSLConnection:
            parsed["ssl"] = True
        asking = {name: value for name, value in parsed.items() if name != "db"}
        self._sentinels = Sentinel(
            [tuple(host) for host in address.hosts],
            sentinel_kwargs={
                **asking,
                "socket_timeout": SENTINEL_TIMEOUT_SECONDS,
                "socket_connect_timeout": SENTINEL_TIMEOUT_SECONDS,
                "retry": Retry(NoBackoff(), 0),
            },
        )
        self._pool = SentinelConnectionPool(address.service, self._sentinels, **parsed, **options)

    def make_connection(self) -> AbstractConnection:
        """A connection, not opened yet: it finds the primary when it is."""
        connection: AbstractConnection = self._pool.make_connection()
        return connection

    async def close(self) -> None:
        """Close the connections to the Sentinels."""
        await asyncio.gather(*(sentinel.aclose() for sentinel in self._sentinels.sentinels))
