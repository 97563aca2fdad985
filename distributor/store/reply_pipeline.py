"""The protocol of one connection to Valkey: writes exchanges in order and matches replies to them in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import libvalkey
from valkey.exceptions import InvalidResponse

from distributor.errors import DistributorError
from distributor.store.valkey_errors import READ_ONLY, away, refusal

OVERDUE_GRACE_SECONDS: Final = 0.1
"""Extra time for a reply that is overdue, so that replies which arrived while the loop was blocked are read first."""

_INCOMPLETE: Final = object()


class Exchange:
    """Commands that travel together, and the future of their replies."""

    __slots__ = ("count", "deadline", "packed", "replies", "result")

    def __init__(self, packed: bytes, count: int, result: asyncio.Future[list[Any]]) -> None:
        """`packed` is what to write, `count` the number of replies it causes."""
        self.packed = packed
        self.count = count
        self.result = result
        self.replies: list[Any] = []
        self.deadline = 0.0
        """Time of the loop by which all replies must be there."""


class ReplyPipeline(asyncio.Protocol):
    """One connection, from the end of its handshake to its loss; afterwards it accepts nothing.

    An exchange ends with its replies, or with Unavailable when the connection is lost or its oldest exchange is not
    answered in time. Error replies are values of our errors. A cancelled exchange keeps its place: its replies are read
    and dropped. `writable` is called when exchanges can be sent again, `lost` once at the end. One event loop; no
    locks, no tasks.
    """

    def __init__(
        self,
        writer: asyncio.StreamWriter,
        reply_timeout_seconds: float,
        writable: Callable[[], None],
        lost: Callable[[ReplyPipeline], None],
    ) -> None:
        """The caller makes this the protocol of the transport of `writer`."""
        self._transport = writer.transport
        # From Python 3.12 on, a writer that nothing refers to closes its transport.
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._timeout = reply_timeout_seconds
        self._on_writable = writable
        self._on_lost = lost
        self._reader = libvalkey.Reader(
            protocolError=InvalidResponse,
            replyError=self._refused,
            notEnoughData=_INCOMPLETE,
            convertSetsToLists=True,
        )
        self._waiting: deque[Exchange] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._overdue: Exchange | None = None
        self._paused = False
        self._lost = False
        self._demoted = False
        self._closed = asyncio.Event()

    def send(self, exchange: Exchange) -> bool:
        """Write `exchange` behind all others. Return False, having done nothing, if that is impossible now."""
        if self._paused or self._lost or self._transport.is_closing():
            return False
        exchange.deadline = self._loop.time() + self._timeout
        self._waiting.append(exchange)
        if self._timer is None:
            self._timer = self._loop.call_at(exchange.deadline, self._check_oldest)
        self._transport.write(exchange.packed)
        exchange.packed = b""
        return True

    async def close(self) -> None:
        """Close the connection. Exchanges in flight end with Unavailable."""
        self._end("the connection was closed")
        await self._closed.wait()

    # What the transport calls

    def data_received(self, data: bytes) -> None:
        """Hand the replies in `data` to the exchanges that wait."""
        self._reader.feed(data)
        next_reply, waiting = self._reader.gets, self._waiting
        try:
            while (reply := next_reply()) is not _INCOMPLETE:
                if not waiting:
                    self._end(f"it sent a reply to nothing: {reply!r:.100}")
                    return
                oldest = waiting[0]
                oldest.replies.append(reply)
                if len(oldest.replies) == oldest.count:
                    waiting.popleft()
                    if not oldest.result.done():
                        oldest.result.set_result(oldest.replies)
        except InvalidResponse as error:
            self._end(f"its reply is not of its protocol: {error}")
        if self._demoted:
            # What it was sent behind this it refuses, too. The next connection is to the primary that took its place.
            self._end("it is a replica now")

    def eof_received(self) -> None:
        """Notice the end at once; the transport then closes itself."""
        self._end("it closed the connection")

    def connection_lost(self, exc: Exception | None) -> None:
        """End all exchanges that wait."""
        self._end(f"the connection was lost: {exc or 'closed'}")
        self._closed.set()

    def pause_writing(self) -> None:
        """Accept no exchanges: Valkey does not read as fast as they come."""
        self._paused = True

    def resume_writing(self) -> None:
        """Accept exchanges again."""
        self._paused = False
        self._on_writable()

    def _refused(self, reply: str) -> DistributorError:
        self._demoted = self._demoted or reply.startswith(READ_ONLY)
        return refusal(reply)

    def _check_oldest(self) -> None:
        """End the connection if its oldest exchange is overdue, else look again when that may be."""
        self._timer = None
        if not self._waiting:
            return
        oldest = self._waiting[0]
        now = self._loop.time()
        if oldest.deadline > now:
            self._timer = self._loop.call_at(oldest.deadline, self._check_oldest)
        elif self._overdue is not oldest:
            self._overdue = oldest
            self._timer = self._loop.call_at(now + OVERDUE_GRACE_SECONDS, self._check_oldest)
        else:
            self._end(f"no reply within {self._timeout:g} s")

    def _end(self, why: str) -> None:
        """Drop the connection. What was sent may or may not have happened, and is never sent again."""
        if self._lost:
            return
        self._lost = True
        self._transport.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for exchange in self._waiting:
            if not exchange.result.done():
                exchange.result.set_exception(away(why))
        self._waiting.clear()
        self._on_lost(self)
