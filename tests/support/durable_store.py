"""The stores of a replica under a durability, and a load that remembers what was acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from distributor.errors import Unavailable
from distributor.store.command_store import ValkeyCommandStore
from distributor.store.connections import StoreConnections
from distributor.store.durability import Durability
from distributor.store.durability_check import WantedDurability, durability_of
from distributor.store.embedded import EmbeddedValkey
from distributor.store.exchanges import Exchanges
from distributor.store.functions import Functions
from distributor.store.policy import StorePolicy
from tests.support.store_world import REPLICA, StoreWorld


class DurableWorld(StoreWorld):
    """All stores of one replica, which acknowledge under a durability."""

    def __init__(self, connections: StoreConnections, durability: Durability) -> None:
        super().__init__(connections, StorePolicy(queue_limit=1_000_000))
        self.durability = durability
        self.functions = Functions(connections.functions, REPLICA, self.policy, durability=durability)
        self.functions.on_changes = self.told.append
        self.exchanges = Exchanges(self.functions)
        self.store = ValkeyCommandStore(self.functions, self.exchanges, self.policy)
        self.kept: set[str] = set()
        """Commands whose queueing was acknowledged by `keep_queueing`."""
        self.failures: list[Unavailable] = []

    async def keep_queueing(self, callers: int = 4) -> None:
        """Queue commands, one at a time by each caller, until Valkey ends."""
        await asyncio.gather(*(self._queue_until_failure() for _ in range(callers)))

    async def _queue_until_failure(self) -> None:
        while True:
            new = self.new()
            try:
                await self.store.enqueue([new])
            except Unavailable as error:
                self.failures.append(error)
                return
            self.kept.add(new.command_id)

    async def missing(self) -> set[str]:
        """Acknowledged commands that this Valkey does not have."""
        ids = sorted(self.kept)
        states = await self.reader.states(ids)
        return {command_id for command_id, state in zip(ids, states, strict=True) if state is None}


@asynccontextmanager
async def durable_world(
    url: str, wanted: str, embedded: EmbeddedValkey | None = None, replicas: int = 1
) -> AsyncIterator[DurableWorld]:
    """Stores on the Valkey at `url` as a server opens them."""
    connections = StoreConnections.to(url)
    try:
        durability = await durability_of(connections, WantedDurability(wanted, replicas), embedded)
        yield DurableWorld(connections, durability)
    finally:
        await connections.close()


async def missing_from(url: str, world: DurableWorld) -> set[str]:
    """Commands acknowledged in `world` that the Valkey at `url` does not have."""
    connections = StoreConnections.to(url)
    try:
        copy = DurableWorld(connections, Durability())
        copy.kept = set(world.kept)
        return await copy.missing()
    finally:
        await connections.close()
