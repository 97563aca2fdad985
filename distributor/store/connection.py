"""Connections to Valkey, and what its errors mean to us."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import libvalkey
import valkey.exceptions as driver
from valkey.asyncio import BlockingConnectionPool, Valkey
from valkey.asyncio.connection import AbstractConnection
from valkey.asyncio.retry import Retry
from valkey.backoff import NoBackoff

from distributor.errors import ConfigurationError, DistributorError, ResourceExhausted, Unavailable

CONNECT_TIMEOUT_SECONDS: Final = 5.0
REPLY_TIMEOUT_SECONDS: Final = 10.0
MOST_CONNECTIONS: Final = 64
Argument = str | bytes | int | float

_TRY_LATER: Final = ("MASTERDOWN", "BUSY", "CLUSTERDOWN", "TRYAGAIN")
"""How replies begin for which the driver has no exception of its own."""


class Connection:
    """A Valkey, reached over a bounded pool with timeouts, and no retries: no change is made twice behind our back.

    Replies are as Valkey gives them: bytes, int, None, and lists of them. Errors are ours. Safe for concurrent use on
    one event loop; `close()` when done.
    """

    def __init__(self, url: str, *, reply_timeout_seconds: float | None = REPLY_TIMEOUT_SECONDS) -> None:
        """Connects nothing yet. Raises ConfigurationError where `url` is not one that Valkey clients understand."""
        self.shown_url = _without_password(url)
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=MOST_CONNECTIONS,
                timeout=CONNECT_TIMEOUT_SECONDS,
                socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
                socket_timeout=reply_timeout_seconds,
                retry=Retry(NoBackoff(), 0),
                health_check_interval=0,
            )
        except (ValueError, TypeError) as error:
            raise ConfigurationError(
                f"valkey_url is not a Valkey address: {self.shown_url}: {error}", field="valkey_url"
            ) from error
        pool.connection_class = _packing_in_c(pool.connection_class)
        self._client: Any = Valkey.from_pool(pool)
        # Replies are read as they come: the library's conversions cost more than the whole call.
        self._client.response_callbacks.clear()

    async def call(self, *arguments: Argument) -> Any:
        """The reply to one command."""
        with translated():
            return await self._client.execute_command(*arguments)

    async def calls(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        """The replies to commands that travel together. Not a transaction."""
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        with translated():
            replies = list(await pipeline.execute(raise_on_error=False))
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
            return replies

    async def close(self) -> None:
        """End all connections."""
        await self._client.aclose(close_connection_pool=True)


async def check_server(connection: Connection) -> None:
    """Raise ConfigurationError unless this is a Valkey that can keep commands: reachable, and never evicting."""
    shown = connection.shown_url
    try:
        info = await connection.call("INFO", "memory")
    except DistributorError as error:
        raise ConfigurationError(f"cannot use the Valkey at {shown}: {error}", field="valkey_url") from error
    policy = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line).get("maxmemory_policy", "")
    if policy != "noeviction":
        raise ConfigurationError(
            f"the Valkey at {shown} evicts keys when it is full (maxmemory-policy is {policy}), which would lose "
            "commands; set maxmemory-policy to noeviction",
            field="valkey_url",
            reason="VALKEY_EVICTS",
        )


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


def _packing_in_c(connection_class: type[AbstractConnection]) -> type[AbstractConnection]:
    """`connection_class`, with commands put together by libvalkey: doing so in Python took a third of our CPU."""

    class PackingInC(connection_class):  # type: ignore[valid-type, misc]
        def pack_command(self, *arguments: Argument) -> list[bytes]:
            return [libvalkey.pack_command(arguments)]

    return PackingInC


def _full(error: Exception) -> ResourceExhausted:
    return ResourceExhausted(
        f"Valkey has no memory left for more commands: {error}", reason="STORE_FULL", retry_after_seconds=5.0
    )


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
