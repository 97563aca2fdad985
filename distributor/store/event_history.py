"""The part of the event stream that is still kept, read backwards in time from now."""

from __future__ import annotations

import re
from typing import Final

from distributor.dispatch.ports import Facts
from distributor.store import keys
from distributor.store.connection import Connection
from distributor.store.event_entries import EventEntries

BEGINNING: Final = "0-0"
ENTRIES_IN_A_READ: Final = 200
_POSITION: Final = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")


class ValkeyEventHistory:
    """Reads events of the past. Safe for concurrent use on one event loop."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._entries = EventEntries()

    async def kept_from(self) -> str:
        """The position of the oldest event that is kept, or "0-0" where none was ever cut."""
        if not await self._connection.call("EXISTS", keys.EVENTS):
            return BEGINNING
        reply = await self._connection.call("XINFO", "STREAM", keys.EVENTS)
        info = dict(zip(reply[::2], reply[1::2], strict=True))
        if info[b"length"] == info[b"entries-added"] or not info[b"first-entry"]:
            return BEGINNING
        position: bytes = info[b"first-entry"][0]
        return position.decode()

    async def between(self, after: str, until: str) -> list[Facts]:
        """The first facts after `after`, up to and with `until`; empty once there are none."""
        entries = await self._connection.call("XRANGE", keys.EVENTS, f"({after}", until, "COUNT", ENTRIES_IN_A_READ)
        return [self._entries.facts(entry_id, fields) for entry_id, fields in entries]


def order_of(position: str) -> tuple[int, int] | None:
    """What positions are compared by; None for what is no position."""
    if not _POSITION.fullmatch(position):
        return None
    milliseconds, _, number = position.partition("-")
    return int(milliseconds), int(number)
