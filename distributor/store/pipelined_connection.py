"""One ordered, pipelined connection to Valkey."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import libvalkey
import valkey.exceptions as driver
from valkey.asyncio.connection import AbstractConnection

from distributor.errors import DistributorError, Unavailable
from distributor.store.reply_pipeline import Exchange, ReplyPipeline
from distributor.store.valkey_connection import (
    REPLY_TIMEOUT_SECONDS,
    Argument,
    connection_factory,
    without_password,
)
from distributor.store.valkey_errors import away, converted

CANCEL_INTERVAL_SECONDS: Final = 0.1


class PipelinedConnection:
    """A Valkey, reached over one connection that executes exchanges in the order in which they were submitted.

    Any number of exchanges may be in flight. Replies are as Valkey sends them: bytes, int, None, and lists of them.
    Nothing is sent twice: exchanges in flight when the connection is lost raise Unavailable, and what happened to them
    is unknown; those not sent yet wait for the next connection. It connects when there is something to send.

    For short commands only, because a blocking command delays all behind it. Memory is bounded by its callers. Safe for
    concurrent use on one event loop; a cancelled caller does not disturb others. Call `close()` when done.

    The driver connects and authenticates. Afterwards its transport gets a protocol of ours, which needs neither a task,
    a timeout, nor a stream for an exchange: the driver's cost more CPU than the calls they carry.
    """

    def __init__(self, url: str, *, reply_timeout_seconds: float = REPLY_TIMEOUT_SECONDS) -> None:
        """Does not connect yet. Raises ConfigurationError if `url` is not a valid Valkey URL."""
        self.shown_url = without_password(url)
        self.number = 0
        """The ordinal number of the latest connection: replies that came over it name the same Valkey process."""
        self._factory = connection_factory(url, reply_timeout_seconds)
        self._reply_timeout_seconds = reply_timeout_seconds
        self._pipeline: ReplyPipeline | None = None
        self._unsent: deque[Exchange] = deque()
        """Exchanges that wait for a connection, or for it to take more. While there are any, it takes none directly."""
        self._connecting: asyncio.Task[None] | None = None
        self._closed = False

    async def call(self, *arguments: Argument) -> Any:
        """Send one command and return its reply. Raises the error of an error reply."""
        (reply,) = await self.exchange((arguments,))
        if isinstance(reply, DistributorError):
            raise reply
        return reply

    async def exchange(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        """Send `commands` in one write and return their replies. Not a transaction.

        An error reply is returned in its place, as a DistributorError that was not raised. Raises Unavailable if the
        connection cannot be made or was lost, or if the replies did not arrive in time; the changes of the commands
        may or may not have happened then.
        """
        return await self.submit(commands) if commands else []

    def submit(self, commands: Sequence[tuple[Argument, ...]]) -> asyncio.Future[list[Any]]:
        """Like `exchange`, but send at once and return a future of the replies. `commands` must not be empty."""
        packed = b"".join([libvalkey.pack_command(command) for command in commands])
        exchange = Exchange(packed, len(commands), asyncio.get_running_loop().create_future())
        if self._pipeline is None or not self._pipeline.send(exchange):
            self._send_later(exchange)
        return exchange.result

    async def close(self) -> None:
        """Close the connection. Exchanges in flight, and all that are submitted later, raise Unavailable."""
        self._closed = True
        self._fail_unsent(_closed)
        connecting = self._connecting
        while connecting is not None and not connecting.done():
            # The driver calls `asyncio.wait_for`, which in Python 3.11 can swallow a cancellation.
            connecting.cancel()
            await asyncio.wait([connecting], timeout=CANCEL_INTERVAL_SECONDS)
        if self._pipeline is not None:
            await self._pipeline.close()
        await self._factory.close()

    def _send_later(self, exchange: Exchange) -> None:
        if self._closed:
            raise _closed()
        self._unsent.append(exchange)
        if self._pipeline is None:
            self._connect()

    def _send_unsent(self) -> None:
        while self._unsent and self._pipeline is not None:
            if not self._unsent[0].result.done() and not self._pipeline.send(self._unsent[0]):
                return
            self._unsent.popleft()

    def _fail_unsent(self, error: Callable[[], DistributorError]) -> None:
        for exchange in self._unsent:
            if not exchange.result.done():
                exchange.result.set_exception(error())
        self._unsent.clear()

    def _lost(self, pipeline: ReplyPipeline) -> None:
        self._pipeline = None
        if self._unsent and not self._closed:
            self._connect()

    def _connect(self) -> None:
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect_and_send(), name="connect to Valkey")

    async def _connect_and_send(self) -> None:
        try:
            self._pipeline = await self._connected()
            self.number += 1
        except (driver.ValkeyError, OSError) as error:
            self._fail_unsent(partial(converted, error))
        except Exception as error:
            self._fail_unsent(partial(away, repr(error)))
            raise
        finally:
            self._connecting = None
        self._send_unsent()

    async def _connected(self) -> ReplyPipeline:
        """A new connection, authenticated by the driver and then taken from it."""
        connection = self._factory.make_connection()
        try:
            await connection.connect()
            return self._taken_over(connection)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise

    def _taken_over(self, connection: AbstractConnection) -> ReplyPipeline:
        reader, writer = connection._reader, connection._writer
        if reader is None or writer is None or reader.at_eof() or writer.transport.is_closing():
            raise driver.ConnectionError("it closed the connection")
        pipeline = ReplyPipeline(writer, self._reply_timeout_seconds, self._send_unsent, self._lost)
        writer.transport.set_protocol(pipeline)
        # Otherwise the driver would close it.
        connection._reader = connection._writer = None
        return pipeline


def _closed() -> Unavailable:
    return away("the connection was closed")
