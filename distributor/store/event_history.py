"""The part of the event stream that is still kept, read backwards in time from now."""

from __future__ import annotations

from typing import Final

from distributor.dispatch.ports import Facts
from distributor.model.position import BEGINNING, order_of
from distributor.store import keys
from distributor.store.connection import Connection
from distributor.store.event_entries import EventEntries

ENTRIES_IN_A_READ: Final = 200


class ValkeyEventHistory:
    """The EventHistory port on a Valkey. Safe for concurrent use on one event loop."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._entries = EventEntries()

    async def reaches(self, position: str) -> bool:
        """Whether all that happened after `position` is still here: not trimmed, nor lost with an emptied Valkey."""
        if order_of(position) == order_of(BEGINNING):
            return await self._nothing_trimmed()
        oldest = await self._connection.call("XRANGE", keys.EVENTS, "-", "+", "COUNT", 1)
        return bool(oldest) and order_of(oldest[0][0].decode()) <= order_of(position)

    async def between(self, after: str, until: str) -> list[Facts]:
        """The first facts after `after`, up to and with `until`; empty once there are none."""
        entries = await self._connection.call("XRANGE", keys.EVENTS, f"({after}", until, "COUNT", ENTRIES_IN_A_READ)
        return [self._entries.facts(entry_id, fields) for entry_id, fields in entries]

    async def _nothing_trimmed(self) -> bool:
        if not await self._connection.call("EXISTS", keys.EVENTS):
            return True
        reply = await self._connection.call("XINFO", "STREAM", keys.EVENTS)
        info = dict(zip(reply[::2], reply[1::2], strict=True))
        return bool(info[b"length"] == info[b"entries-added"])
