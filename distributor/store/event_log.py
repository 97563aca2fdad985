"""Reads the event stream: new events as they are written, and the retained history."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Final

from distributor.model.event import EventBatch
from distributor.model.position import BEGINNING, order_of
from distributor.store import keys
from distributor.store.connections import EVENT_BLOCK_MS
from distributor.store.event_entries import EventEntries
from distributor.store.valkey_connection import ValkeyConnection

EVENTS_KEY: Final = keys.in_shard(keys.EVENTS)
MAX_ENTRIES_PER_READ: Final = 200
BUSY_INTERVAL_SECONDS: Final = 0.02
"""Reads that follow each other faster than this are a sign of load."""
BUSY_PAUSE_SECONDS: Final = 0.005
SECONDS_BETWEEN_CHECKS: Final = 1.0


class ValkeyEventLog:
    """The EventLog port on Valkey.

    `connection` must not be shared: a blocking read occupies it for up to EVENT_BLOCK_MS.
    """

    def __init__(self, connection: ValkeyConnection) -> None:
        self._connection = connection
        self._entries = EventEntries()

    async def tail(self, position: str) -> AsyncIterator[EventBatch]:
        """Yield batches after `position`, and mark where some were missed. Raises Unavailable if Valkey is away."""
        next_check = last_read = 0.0
        while True:
            reply = await self._connection.call(
                "XREAD", "COUNT", MAX_ENTRIES_PER_READ, "BLOCK", EVENT_BLOCK_MS, "STREAMS", EVENTS_KEY, position
            )
            if reply:
                # Under load, entries are read together.
                now = time.monotonic()
                if now - last_read < BUSY_INTERVAL_SECONDS:
                    await asyncio.sleep(BUSY_PAUSE_SECONDS)
                last_read = time.monotonic()
            # Check regularly: events may have been trimmed beyond a lagging reader's position, or Valkey emptied.
            if time.monotonic() >= next_check:
                next_check = time.monotonic() + SECONDS_BETWEEN_CHECKS
                kept_from = await self._kept_from()
                if position != BEGINNING and (kept_from is None or order_of(kept_from) > order_of(position)):
                    position = position if reply else await self.last_position()
                    yield EventBatch(position, "", (), missed=True)
            for entry_id, fields in reply[0][1] if reply else ():
                batch = self._entries.batch(entry_id, fields)
                position = batch.position
                yield batch

    async def _kept_from(self) -> str | None:
        oldest = await self._connection.call("XRANGE", EVENTS_KEY, "-", "+", "COUNT", 1)
        return oldest[0][0].decode() if oldest else None

    async def last_position(self) -> str:
        """The position of the newest event, or BEGINNING if there is none."""
        newest = await self._connection.call("XREVRANGE", EVENTS_KEY, "+", "-", "COUNT", 1)
        return newest[0][0].decode() if newest else BEGINNING


class ValkeyEventHistory:
    """The EventHistory port on Valkey. Safe for concurrent use on one event loop."""

    def __init__(self, connection: ValkeyConnection) -> None:
        self._connection = connection
        self._entries = EventEntries()

    async def reaches(self, position: str) -> bool:
        """Whether all events after `position` are retained: neither trimmed nor lost with an emptied Valkey."""
        if order_of(position) == order_of(BEGINNING):
            return await self._nothing_trimmed()
        oldest = await self._connection.call("XRANGE", EVENTS_KEY, "-", "+", "COUNT", 1)
        return bool(oldest) and order_of(oldest[0][0].decode()) <= order_of(position)

    async def between(self, after: str, until: str) -> list[EventBatch]:
        """The first batches after `after`, up to and including `until`; empty if there are none."""
        entries = await self._connection.call("XRANGE", EVENTS_KEY, f"({after}", until, "COUNT", MAX_ENTRIES_PER_READ)
        return [self._entries.batch(entry_id, fields) for entry_id, fields in entries]

    async def _nothing_trimmed(self) -> bool:
        if not await self._connection.call("EXISTS", EVENTS_KEY):
            return True
        reply = await self._connection.call("XINFO", "STREAM", EVENTS_KEY)
        info = dict(zip(reply[::2], reply[1::2], strict=True))
        return bool(info[b"length"] == info[b"entries-added"])
