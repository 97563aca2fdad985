"""Removes expired entries from the indexes. The keys of ended commands expire by their TTL."""

from __future__ import annotations

import asyncio

from distributor.dispatch.ports import CommandStore
from distributor.errors import DistributorError
from distributor.observability.logging import get_logger
from distributor.observability.outage import Outage

logger = get_logger()


class Retention:
    """One loop per replica, every `cleanup_interval` seconds."""

    def __init__(self, store: CommandStore, cleanup_interval: float = 3_600.0) -> None:
        self._store = store
        self._cleanup_interval = cleanup_interval
        self._outage = Outage("sweep")

    async def run(self) -> None:
        """Sweep until cancelled, first at once."""
        while True:
            try:
                swept = await self.run_once()
                self._outage.recovered()
                if swept:
                    logger.info("removed expired entries", entries=swept)
            except DistributorError as error:
                self._outage.failed(error)
            await asyncio.sleep(self._cleanup_interval)

    async def run_once(self) -> int:
        """Sweep everything in bounded steps; return the number of entries removed."""
        swept, after = 0, ""
        while True:
            count, after = await self._store.forget(after)
            swept += count
            if not after and not count:
                return swept
