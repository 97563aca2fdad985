"""Reads the emergency stops in force, for the dashboards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from distributor.bridge.event_hub import EventHub
from distributor.errors import DistributorError
from distributor.model.emergency_stop import EmergencyStop
from distributor.observability.outage import WAIT_AFTER_FAILURE_SECONDS, Outage

LOOK_SECONDS: Final = 5.0
"""How often to look for stops whose events were missed."""


class EmergencyWatch:
    """One loop per bridge: at once after an event, and now and then."""

    def __init__(self, hub: EventHub, read: Callable[[], Awaitable[Sequence[EmergencyStop]]]) -> None:
        self._hub = hub
        self._read = read
        self._outage = Outage("read emergency stops")

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                await self.run_once()
                self._outage.recovered()
            except DistributorError as error:
                self._outage.failed(error)
                await asyncio.sleep(WAIT_AFTER_FAILURE_SECONDS)
                continue
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._hub.stops_changed.wait()
            except TimeoutError:
                continue

    async def run_once(self) -> None:
        """Read once."""
        self._hub.stops_changed.clear()
        self._hub.set_stops(await self._read())
