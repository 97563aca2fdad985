"""The connections of one process to its Valkey."""

from __future__ import annotations

from typing import Final, NamedTuple

from distributor.store.pipelined_connection import PipelinedConnection
from distributor.store.valkey_connection import REPLY_TIMEOUT_SECONDS, ValkeyConnection

EVENT_BLOCK_MS: Final = 5_000
"""How long a read of events waits for the next one."""


class StoreConnections(NamedTuple):
    """One ordered connection for functions, a pool for reads, and one each for two that block: events and replicas."""

    functions: PipelinedConnection
    reads: ValkeyConnection
    events: ValkeyConnection
    replicas: PipelinedConnection

    @classmethod
    def to(cls, url: str) -> StoreConnections:
        """Connections to the Valkey at `url`, not opened yet. Raises ConfigurationError for an invalid URL."""
        return cls(
            PipelinedConnection(url),
            ValkeyConnection(url),
            ValkeyConnection(url, reply_timeout_seconds=EVENT_BLOCK_MS / 1000 + REPLY_TIMEOUT_SECONDS),
            PipelinedConnection(url),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self.functions.close()
        await self.replicas.close()
        await self.events.close()
        await self.reads.close()
