"""Which primary of a Valkey Cluster serves which slot."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import valkey.exceptions as driver
from valkey.asyncio import ValkeyCluster
from valkey.asyncio.cluster import ClusterNode
from valkey.asyncio.retry import Retry
from valkey.backoff import NoBackoff

from distributor.errors import DistributorError, Unavailable
from distributor.observability.logging import get_logger
from distributor.settings.store_address import Host, StoreAddress
from distributor.store.valkey_connection import checking_host
from distributor.store.valkey_errors import away

logger = get_logger()

REFRESH_SECONDS: Final = 0.2
"""Minimum time between two looks at the cluster, however many calls fail meanwhile."""
LOOK_TIMEOUT_SECONDS: Final = 2.0
"""For one node to answer a look."""


class ClusterMap:
    """The map as it was last seen, which calls correct: by what nodes answer, and by a new look after failures.

    The driver asks the nodes and parses what they say. One event loop.
    """

    def __init__(self, address: StoreAddress, look_seconds: float = REFRESH_SECONDS) -> None:
        """Does not connect yet."""
        self._address = address
        self._look_seconds = look_seconds
        self._hosts = list(address.hosts)
        """Where to ask, those that answered last first."""
        self._primaries: dict[int, Host] = {}
        self._looking: asyncio.Task[None] | None = None
        self._looked_at = -look_seconds
        self._failure: DistributorError | None = None

    def primary(self, slot: int) -> Host:
        """The node that serves a slot, as far as known. Raises Unavailable if none is known to."""
        host = self._primaries.get(slot)
        if host is None:
            self.look_soon()
            raise self._failure or away("no node of the cluster is known to serve this yet")
        return host

    def moved(self, slot: int, host: Host) -> None:
        """A node has said that another one serves a slot."""
        if self._primaries.get(slot) != host:
            self._primaries[slot] = host
            # Slots move in ranges, and a failover moves all of a node.
            self.look_soon()

    def look_soon(self) -> None:
        """Look at the cluster again, but not more often than every REFRESH_SECONDS."""
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_later(), name="look at the cluster")
            self._looking.add_done_callback(self._looked)

    async def look(self) -> None:
        """Look at the cluster now. Raises Unavailable if no node answers."""
        cluster = ValkeyCluster.from_url(
            checking_host(self._address.url_of(self._hosts[0])),
            startup_nodes=[ClusterNode(host.name, host.port) for host in self._hosts[1:]],
            require_full_coverage=False,
            socket_connect_timeout=LOOK_TIMEOUT_SECONDS,
            socket_timeout=LOOK_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            async with asyncio.timeout(2 * LOOK_TIMEOUT_SECONDS * len(self._hosts)):
                await cluster.initialize()
            found = cluster.nodes_manager.slots_cache
            self._primaries = {slot: _host(nodes[0]) for slot, nodes in found.items()}
            # Those that answer come first, and those that were configured stay known.
            self._hosts = list(dict.fromkeys([*map(_host, cluster.get_nodes()), *self._address.hosts]))
            self._failure = None
        except (driver.ValkeyError, driver.ValkeyClusterException, OSError, TimeoutError) as error:
            self._failure = away(f"no node of the cluster answers: {error}".rstrip("."))
            raise self._failure from error
        finally:
            self._looked_at = time.monotonic()
            await cluster.aclose()

    async def close(self) -> None:
        """End a look under way."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    async def _look_later(self) -> None:
        await asyncio.sleep(max(0.0, self._looked_at + self._look_seconds - time.monotonic()))
        try:
            await self.look()
        except Unavailable as error:
            logger.debug("cannot look at the cluster", error=str(error))

    def _looked(self, looking: asyncio.Task[None]) -> None:
        self._looking = None
        if not looking.cancelled():
            looking.result()


def _host(node: ClusterNode) -> Host:
    return Host(node.host, int(node.port))
