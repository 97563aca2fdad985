"""A pool of connections to Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlencode

import libvalkey
import valkey.exceptions as driver
from valkey.asyncio import ConnectionPool
from valkey.asyncio.connection import AbstractConnection
from valkey.asyncio.retry import Retry
from valkey.backoff import NoBackoff

from distributor.errors import ConfigurationError, Unavailable
from distributor.settings.store_address import StoreKind, store_address
from distributor.store.sentinel_connections import SentinelFactory
from distributor.store.valkey_errors import translated

CONNECT_TIMEOUT_SECONDS: Final = 5.0
REPLY_TIMEOUT_SECONDS: Final = 10.0
MAX_CONNECTIONS: Final = 64
Argument = str | bytes | int | float

_TLS_SCHEMES: Final = ("valkeys://", "rediss://", "valkeys+", "rediss+")
_CHECK_HOST: Final = "ssl_check_hostname"


class ValkeyConnection:
    """A Valkey, reached over a limited number of connections with timeouts; no retries, so no change is made twice.

    Replies are as Valkey sends them: bytes, int, None, and lists of them. Errors are ours. Safe for concurrent use on
    one event loop; a cancelled call loses its connection but never receives or causes another caller's reply. Call
    `close()` when done.

    Uses only the driver's connections: its client and pool cost more CPU than the calls they carry.
    """

    def __init__(self, url: str, *, reply_timeout_seconds: float | None = REPLY_TIMEOUT_SECONDS) -> None:
        """Does not connect yet. Raises ConfigurationError if `url` is not a valid Valkey URL."""
        self.shown_url = without_password(url)
        self._factory = connection_factory(url, reply_timeout_seconds)
        self._idle: list[AbstractConnection] = []
        self._permits = asyncio.Semaphore(MAX_CONNECTIONS)

    async def call(self, *arguments: Argument) -> Any:
        """Send one command and return its reply."""
        async with self._connected() as connection:
            await connection.send_packed_command(libvalkey.pack_command(arguments), check_health=False)
            return await connection.read_response()

    async def calls(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        """Send commands together and return their replies. Not a transaction. Raises the first error."""
        async with self._connected() as connection:
            packed = b"".join([libvalkey.pack_command(command) for command in commands])
            await connection.send_packed_command(packed, check_health=False)
            replies: list[Any] = []
            failure: driver.ResponseError | None = None
            for _ in commands:
                try:
                    replies.append(await connection.read_response())
                except driver.ResponseError as error:
                    failure = failure or error
            if failure is not None:
                raise failure
            return replies

    async def close(self) -> None:
        """Close all connections."""
        await self._drop_idle()
        await self._factory.close()

    async def _drop_idle(self) -> None:
        while self._idle:
            await self._idle.pop().disconnect()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AbstractConnection]:
        """Lend a connection for one exchange."""
        async with self._permits:
            connection = self._idle.pop() if self._idle else self._factory.make_connection()
            try:
                with translated():
                    yield connection
            except Unavailable:
                # The same failure has broken the idle connections too.
                await self._drop_idle()
                raise
            finally:
                # One that is broken is replaced by a new one, which reads certificate files again.
                if connection.is_connected:
                    self._idle.append(connection)


class ConnectionFactory(Protocol):
    """Makes the driver's connections."""

    def make_connection(self) -> AbstractConnection:
        """A connection, not opened yet."""

    async def close(self) -> None:
        """Close what it needs for making connections."""


class SingleFactory:
    """Makes connections to one Valkey."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        """Raises ValueError and TypeError for an invalid URL."""
        self._pool = ConnectionPool.from_url(url, **options)

    def make_connection(self) -> AbstractConnection:
        """A connection, not opened yet."""
        connection: AbstractConnection = self._pool.make_connection()
        return connection

    async def close(self) -> None:
        """Nothing: it has no connections of its own."""


def connection_factory(url: str, reply_timeout_seconds: float | None) -> ConnectionFactory:
    """A maker of connections to `url`, without retries. Raises ConfigurationError if `url` is invalid."""
    options = {
        "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "socket_timeout": reply_timeout_seconds,
        "retry": Retry(NoBackoff(), 0),
    }
    address = store_address(checking_host(url))
    try:
        if address.kind is StoreKind.SENTINEL:
            return SentinelFactory(address, options)
        return SingleFactory(address.url, options)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"valkey_url is not a Valkey address: {without_password(url)}: {error}", field="valkey_url"
        ) from error


class ValkeyFiles(NamedTuple):
    """PEM files for TLS to Valkey: authorities to trust, and a client certificate with its key."""

    authorities: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


def with_files(url: str, files: ValkeyFiles) -> str:
    """`url` with these files, in the form that the driver reads them for each connection."""
    given = zip(("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"), files, strict=True)
    query = urlencode({name: str(path) for name, path in given if path is not None})
    return f"{url}{'&' if '?' in url else '?'}{query}" if query else url


def checking_host(url: str) -> str:
    """`url` with the check that Valkey's certificate is for its host, which the driver leaves out unless asked."""
    if not url.startswith(_TLS_SCHEMES) or _CHECK_HOST in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}{_CHECK_HOST}=true"


def without_password(url: str) -> str:
    """`url` without user, password and options."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2].partition('?')[0]}"
