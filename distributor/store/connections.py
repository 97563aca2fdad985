"""The connections of one process to its Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

from distributor.store.pipelined_connection import PipelinedConnection
from distributor.store.valkey_connection import REPLY_TIMEOUT_SECONDS, Argument, ValkeyConnection

EVENT_BLOCK_MS: Final = 5_000
"""How long a read of events waits for the next one."""


class Pipeline(Protocol):
    """Sends commands to one place in the order in which they are submitted; see PipelinedConnection."""

    @property
    def shown_url(self) -> str:
        """The address without password."""

    @property
    def number(self) -> int:
        """The ordinal number of the latest connection: replies that came over it name the same Valkey process."""

    async def call(self, *arguments: Argument) -> Any:
        """Send one command and return its reply. Raises the error of an error reply."""

    async def exchange(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        """Send commands together and return their replies, error replies in their places."""

    def submit(self, commands: Sequence[tuple[Argument, ...]]) -> asyncio.Future[list[Any]]:
        """Like `exchange`, but send at once and return a future of the replies. `commands` must not be empty."""

    async def close(self) -> None:
        """Close the connection."""


class Reads(Protocol):
    """Sends commands in any order; see ValkeyConnection."""

    @property
    def shown_url(self) -> str:
        """The address without password."""

    async def call(self, *arguments: Argument) -> Any:
        """Send one command and return its reply. Raises the error of an error reply."""

    async def calls(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        """Send commands together and return their replies. Not a transaction. Raises the first error."""

    async def close(self) -> None:
        """Close all connections."""


class StoreConnections(NamedTuple):
    """To one shard: an ordered connection for functions, a pool for reads, and two that block: for events, replicas."""

    functions: Pipeline
    reads: Reads
    events: Reads
    replicas: Pipeline

    @classmethod
    def to(cls, url: str) -> StoreConnections:
        """Connections to the Valkey at `url`, not opened yet. Raises ConfigurationError for an invalid URL."""
        return cls(PipelinedConnection(url), ValkeyConnection(url), blocking_connection(url), PipelinedConnection(url))

    async def close(self) -> None:
        """Close all connections."""
        await self.functions.close()
        await self.replicas.close()
        await self.events.close()
        await self.reads.close()


def blocking_connection(url: str) -> ValkeyConnection:
    """A pool for reads that wait for the next event. Raises ConfigurationError for an invalid URL."""
    return ValkeyConnection(url, reply_timeout_seconds=EVENT_BLOCK_MS / 1000 + REPLY_TIMEOUT_SECONDS)
