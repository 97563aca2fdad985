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


class _Pool(SentinelConnectionPool):
    """Asks for the primary once at a time: the driver reorders its Sentinels meanwhile, and would lose one of two."""

    def __init__(self, service: str, sentinels: Sentinel, **options: Any) -> None:
        super().__init__(service, sentinels, **options)  # type: ignore[no-untyped-call]
        self._asking = asyncio.Lock()

    async def get_master_address(self) -> Any:
        """The host and the port of the primary."""
        async with self._asking:
            return await super().get_master_address()  # type: ignore[no-untyped-call]


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
        self._pool = _Pool(address.service, self._sentinels, **parsed, **options)

    def make_connection(self) -> AbstractConnection:
        """A connection, not opened yet: it finds the primary when it is."""
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        return connection

    async def close(self) -> None:
        """Close the connections to the Sentinels."""
        await asyncio.gather(*(sentinel.aclose() for sentinel in self._sentinels.sentinels))
