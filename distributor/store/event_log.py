"""Reads the event stream: new events as they are written, and the retained history."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from distributor.model.event import EventBatch
from distributor.model.position import BEGINNING, order_of
from distributor.store import keys
from distributor.store.connections import EVENT_BLOCK_MS, Reads
from distributor.store.durability import Durability
from distributor.store.event_entries import EventEntries

MAX_ENTRIES_PER_READ: Final = 200
BUSY_INTERVAL_SECONDS: Final = 0.02
"""Reads that follow each other faster than this are a sign of load."""
BUSY_PAUSE_SECONDS: Final = 0.005
SECONDS_BETWEEN_CHECKS: Final = 1.0
MAX_ENTRIES_COUNTED: Final = 1_000
"""Entries that are counted by reading them, where Valkey's own count does not help."""


class ValkeyEventLog:
    """The EventLog port on Valkey.

    `connection` must not be shared: a blocking read occupies it for up to EVENT_BLOCK_MS. `counting` is another one,
    for `behind`. Events of other replicas than `replica` are yielded once they are durable.
    """

    def __init__(
        self,
        connection: Reads,
        counting: Reads | None = None,
        durability: Durability | None = None,
        replica: str = "",
        shard: str = keys.ONLY_SHARD,
    ) -> None:
        self._stream = keys.in_shard(keys.EVENTS, shard)
        self._replica = replica.encode()
        self._connection = connection
        self._counting = counting or connection
        self._durability = durability or Durability()
        self._entries = EventEntries()
        self._position = ""
        """Where `tail` is; empty before it begins."""
        self._read = 0
        """Entries that `tail` has yielded."""
        self._added_before: int | None = None
        """Entries that were added to the stream before the first yielded one; None until known."""

    async def tail(self, position: str) -> AsyncGenerator[EventBatch, None]:
        """Yield batches after `position`, and mark where some were missed. Raises Unavailable if Valkey is away."""
        next_check = last_read = 0.0
        self._position, self._added_before = position, None
        while True:
            reply = await self._connection.call(
                "XREAD", "COUNT", MAX_ENTRIES_PER_READ, "BLOCK", EVENT_BLOCK_MS, "STREAMS", self._stream, position
            )
            if reply:
                # Under load, entries are read together.
                now = time.monotonic()
                if now - last_read < BUSY_INTERVAL_SECONDS:
                    await asyncio.sleep(BUSY_PAUSE_SECONDS)
                last_read = time.monotonic()
                if self._durability.waits and any(self._foreign(fields) for _, fields in reply[0][1]):
                    await self._durability.settled()
            # Check regularly: events may have been trimmed beyond a lagging reader's position, or Valkey emptied.
            if time.monotonic() >= next_check:
                next_check = time.monotonic() + SECONDS_BETWEEN_CHECKS
                if position != BEGINNING and not await self._retains(position):
                    position = position if reply else await self.last_position()
                    self._position, self._added_before = position, None
                    yield EventBatch(position, "", (), missed=True)
            for entry_id, fields in reply[0][1] if reply else ():
                batch = self._entries.batch(entry_id, fields)
                position = self._position = batch.position
                self._read += 1
                yield batch

    async def settled(self) -> None:
        """Return once all that was yielded before the call is durable. Raises Unavailable if it may not be."""
        await self._durability.settled()

    def _foreign(self, fields: Sequence[bytes]) -> bool:
        return list(fields[:2]) != [b"origin", self._replica]

    async def behind(self) -> int:
        """How many entries `tail` has yet to yield; 0 before it begins. Raises Unavailable if Valkey is away.

        A reader that has not been seen up to date since it began is shown at most MAX_ENTRIES_COUNTED behind, unless
        all retained entries are ahead of it.
        """
        if not self._position or not await self._counting.call("EXISTS", self._stream):
            return 0
        reply = await self._counting.call("XINFO", "STREAM", self._stream)
        info = dict(zip(reply[::2], reply[1::2], strict=True))
        # The tail continues meanwhile: compare with where it is now.
        position, newest = order_of(self._position), order_of(info[b"last-generated-id"].decode())
        if position == newest:
            self._added_before = info[b"entries-added"] - self._read
        oldest = info[b"first-entry"]
        if position >= newest or not oldest:
            return 0
        if order_of(oldest[0].decode()) > position:
            return int(info[b"length"])
        if self._added_before is not None:
            return max(0, int(info[b"entries-added"]) - self._added_before - self._read)
        until = info[b"last-generated-id"]
        ahead = await self._counting.call(
            "XRANGE", self._stream, f"({self._position}", until, "COUNT", MAX_ENTRIES_COUNTED
        )
        return len(ahead)

    async def _retains(self, position: str) -> bool:
        """Whether the stream continues at `position`: nothing after it is trimmed, and it does not end before it.

        An emptied or restored Valkey may have an earlier clock. Its events would not be read.
        """
        oldest, newest = await self._connection.calls(
            [("XRANGE", self._stream, "-", "+", "COUNT", 1), ("XREVRANGE", self._stream, "+", "-", "COUNT", 1)]
        )
        return bool(oldest) and (
            order_of(oldest[0][0].decode()) <= order_of(position) <= order_of(newest[0][0].decode())
        )

    async def last_position(self) -> str:
        """The position of the newest event, or BEGINNING if there is none."""
        newest = await self._connection.call("XREVRANGE", self._stream, "+", "-", "COUNT", 1)
        return newest[0][0].decode() if newest else BEGINNING


class ValkeyEventHistory:
    """The EventHistory port on Valkey. Safe for concurrent use on one event loop."""

    def __init__(self, connection: Reads, shard: str = keys.ONLY_SHARD) -> None:
        self._stream = keys.in_shard(keys.EVENTS, shard)
        self._connection = connection
        self._entries = EventEntries()

    async def reaches(self, position: str) -> bool:
        """Whether all events after `position` are retained: neither trimmed nor lost with an emptied Valkey."""
        if order_of(position) == order_of(BEGINNING):
            return await self._nothing_trimmed()
        oldest = await self._connection.call("XRANGE", self._stream, "-", "+", "COUNT", 1)
        return bool(oldest) and order_of(oldest[0][0].decode()) <= order_of(position)

    async def between(self, after: str, until: str) -> list[EventBatch]:
        """The first batches after `after`, up to and including `until`; empty if there are none."""
        entries = await self._connection.call("XRANGE", self._stream, f"({after}", until, "COUNT", MAX_ENTRIES_PER_READ)
        return [self._entries.batch(entry_id, fields) for entry_id, fields in entries]

    async def _nothing_trimmed(self) -> bool:
        if not await self._connection.call("EXISTS", self._stream):
            return True
        reply = await self._connection.call("XINFO", "STREAM", self._stream)
        info = dict(zip(reply[::2], reply[1::2], strict=True))
        return bool(info[b"length"] == info[b"entries-added"])
