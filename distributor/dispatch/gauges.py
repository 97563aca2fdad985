"""Samples values that must be polled: queue depth, and whether Valkey answers and accepts writes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from distributor.dispatch.ports import CommandReader
from distributor.errors import DistributorError
from distributor.model.lifecycle import CommandStatus
from distributor.model.listing import QueueDepth
from distributor.observability.metrics import Metrics

SAMPLE_INTERVAL_SECONDS = 1.0


class Gauges:
    """One loop. Also decides whether the store is usable: `fault` is the problem, or None."""

    def __init__(
        self,
        reader: CommandReader,
        check_writable: Callable[[], Awaitable[None]],
        metrics: Metrics,
        sample_interval_seconds: float = SAMPLE_INTERVAL_SECONDS,
    ) -> None:
        """`check_writable` raises while the store rejects writes."""
        self._reader = reader
        self._check_writable = check_writable
        self._metrics = metrics
        self._sample_interval_seconds = sample_interval_seconds
        self.fault: str | None = "not asked yet"
        self.changed = asyncio.Event()
        """Set when `fault` appears or disappears; the waiter clears it."""

    async def run(self) -> None:
        """Sample every second until cancelled."""
        while True:
            await self.run_once()
            await asyncio.sleep(self._sample_interval_seconds)

    async def run_once(self) -> None:
        """Take one sample."""
        before = self.fault
        try:
            self._record(await self._reader.depth())
            await self._check_writable()
        except DistributorError as error:
            self.fault = str(error)
        else:
            self.fault = None
        if (before is None) != (self.fault is None):
            self.changed.set()

    def _record(self, depth: QueueDepth) -> None:
        for status, count in depth.by_status.items():
            self._metrics.commands(status, count)
        self._metrics.queue(depth.by_status[CommandStatus.QUEUED], depth.oldest_queued_age_ms / 1000)
