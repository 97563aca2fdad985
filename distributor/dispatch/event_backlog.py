"""Samples how many entries of the event stream its reader is behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from distributor.errors import DistributorError
from distributor.observability.logging import get_logger

logger = get_logger()

SAMPLE_INTERVAL_SECONDS = 1.0


class EventBacklog:
    """One loop per reader, apart from reading: a reader that is stuck or busy is shown as it is."""

    def __init__(
        self,
        measure: Callable[[], Awaitable[int]],
        record: Callable[[int], None],
        sample_interval_seconds: float = SAMPLE_INTERVAL_SECONDS,
    ) -> None:
        """`measure` returns the entries behind, or raises a DistributorError if Valkey is away."""
        self._measure = measure
        self._record = record
        self._sample_interval_seconds = sample_interval_seconds

    async def run(self) -> None:
        """Sample until cancelled. While Valkey is away, which other loops report, the last sample stays."""
        while True:
            await self.run_once()
            await asyncio.sleep(self._sample_interval_seconds)

    async def run_once(self) -> None:
        """Take one sample."""
        try:
            self._record(await self._measure())
        except DistributorError as error:
            logger.debug("cannot measure the backlog of events", error=str(error))
