"""Connections to Valkey, and what its errors mean to us."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import libvalkey
import valkey.exceptions as driver
from valkey.asyncio import ConnectionPool
from valkey.asyncio.connection import AbstractConnection
from valkey.asyncio.retry import Retry
from valkey.backoff import NoBackoff

from distributor.errors import ConfigurationError, DistributorError, ResourceExhausted, Unavailable

CONNECT_TIMEOUT_SECONDS: Final = 5.0
REPLY_TIMEOUT_SECONDS: Final = 10.0
MOST_CONNECTIONS: Final = 64
Argument = str | bytes | int | float

_TRY_LATER: Final = ("MASTERDOWN", "BUSY", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "NOREPLICAS")
"""How replies begin for which the driver has no exception of its own."""


class ValkeyConnection:
    """A Valkey, reached over a bounded number of connections with timeouts, and no retries: no change is made twice.

    Replies are as Valkey gives them: bytes, int, None, and lists of them. Errors are ours. Safe for concurrent use on
    one event loop; a call that is cancelled costs its connection, never another caller's reply. `close()` when done.

    The connections are the driver's; its client and its pool cost more CPU than the calls that they carry.
    """

    def __init__(self, url: str, *, reply_timeout_seconds: float | None = REPLY_TIMEOUT_SECONDS) -> None:
        """Connects nothing yet. Raises ConfigurationError where `url` is not one that Valkey clients understand."""
        self.shown_url = without_password(url)
        try:
            self._factory = ConnectionPool.from_url(
                url,
                socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
                socket_timeout=reply_timeout_seconds,
                retry=Retry(NoBackoff(), 0),
            )
        except (ValueError, TypeError) as error:
            raise ConfigurationError(
                f"valkey_url is not a Valkey address: {self.shown_url}: {error}", field="valkey_url"
            ) from error
        self._idle: list[AbstractConnection] = []
        self._permits = asyncio.Semaphore(MOST_CONNECTIONS)

    async def call(self, *arguments: Argument) -> Any:
        """The reply to one command."""
        async with self._connected() as connection:
            await connection.send_packed_command(libvalkey.pack_command(arguments), check_health=False)
            return await connection.read_response()

    async def calls(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        """The replies to commands that travel together. Not a transaction. Raises for the first that failed."""
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
        """End all connections."""
        while self._idle:
            await self._idle.pop().disconnect()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AbstractConnection]:
        """A connection for one exchange. One that broke connects anew when it is used again."""
        async with self._permits:
            connection = self._idle.pop() if self._idle else self._factory.make_connection()
            try:
                with translated():
                    yield connection
            except Unavailable:
                # What broke this one has broken the idle ones too.
                await self.close()
                raise
            finally:
                self._idle.append(connection)


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors into ours."""
    try:
        yield
    except (driver.ConnectionError, driver.TimeoutError, OSError) as error:
        # While a connection is made, the driver wraps this one in another.
        if driver.AuthenticationError in (type(error), type(error.__cause__)):
            raise Unavailable(f"Valkey refuses our credentials: {error}", reason="STORE_UNAVAILABLE") from error
        raise Unavailable(f"Valkey is away: {error}", reason="STORE_UNAVAILABLE", retry_after_seconds=1.0) from error
    except driver.OutOfMemoryError as error:
        raise _full(error) from error
    except driver.ResponseError as error:
        text = str(error)
        if isinstance(error, driver.ReadOnlyError) or text.startswith(_TRY_LATER):
            raise Unavailable(
                f"Valkey cannot serve now: {text}", reason="STORE_UNAVAILABLE", retry_after_seconds=1.0
            ) from error
        raise DistributorError(f"Valkey refused a call: {text}", reason="STORE_ERROR") from error
    except driver.ValkeyError as error:
        raise DistributorError(f"Valkey failed: {error}", reason="STORE_ERROR") from error


def _full(error: Exception) -> ResourceExhausted:
    return ResourceExhausted(
        f"Valkey has no memory left for more commands: {error}", reason="STORE_FULL", retry_after_seconds=5.0
    )


def without_password(url: str) -> str:
    """`url` as it may be shown."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
