"""Measures event loop lag: a late loop delays every agent and caller."""

from __future__ import annotations

import asyncio
from typing import Final

from distributor.observability.metrics import Metrics

INTERVAL_SECONDS: Final = 0.25


class LoopLag:
    """A background loop. Cancel `run` to stop it."""

    def __init__(self, metrics: Metrics, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._metrics = metrics
        self._interval_seconds = interval_seconds

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            await self.run_once()

    async def run_once(self) -> None:
        """Sleep for the interval and record by how much the wake-up was late."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._interval_seconds
        await asyncio.sleep(self._interval_seconds)
        self._metrics.loop_lag(max(0.0, loop.time() - due))
