"""The event stream, read as it grows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from distributor.dispatch.ports import Facts
from distributor.store import keys
from distributor.store.connection import Connection
from distributor.store.rows import StoredFact

ENTRIES_IN_A_READ: Final = 200
BLOCK_MS: Final = 5_000


class ValkeyEventLog:
    """The EventLog port on a Valkey.

    `connection` is this log's own, with a reply timeout above BLOCK_MS: a blocking read occupies it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def tail(self, position: str) -> AsyncIterator[Facts]:
        """Facts after `position`; raises Unavailable when Valkey goes away."""
        while True:
            reply = await self._connection.call(
                "XREAD", "COUNT", ENTRIES_IN_A_READ, "BLOCK", BLOCK_MS, "STREAMS", keys.EVENTS, position
            )
            for entry_id, fields in reply[0][1] if reply else ():
                position = entry_id.decode()
                # The first pair says who made the change; each further one is a subject and its line.
                names = iter([field.decode() for field in fields[1:]])
                origin = next(names)
                facts = [StoredFact(position, subject, next(names)) for subject in names]
                yield Facts(position, origin, facts)

    async def last_position(self) -> str:
        """The position of the newest event, or of the beginning of time."""
        newest = await self._connection.call("XREVRANGE", keys.EVENTS, "+", "-", "COUNT", 1)
        return newest[0][0].decode() if newest else "0-0"
