"""Asks the server now and then whether it serves: what /readyz says of it."""

from __future__ import annotations

import asyncio
from typing import Final

from distributor.client import CommandClient
from distributor.errors import DistributorError

INTERVAL_SECONDS: Final = 5.0


class ServerCheck:
    """One background loop."""

    def __init__(self, client: CommandClient) -> None:
        self._client = client
        self.fault: str | None = "not asked yet"
        """Why the server cannot be used, in one sentence; None while it can."""

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await self.run_once()
            await asyncio.sleep(INTERVAL_SECONDS)

    async def run_once(self) -> None:
        """Ask once."""
        try:
            await self._client.agents_page(page_size=1)
            self.fault = None
        except DistributorError as error:
            self.fault = error.message
