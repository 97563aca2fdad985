"""Keeps the embedded Valkey running: nobody else would start it again."""

from __future__ import annotations

import asyncio

from distributor.errors import Unavailable
from distributor.model.restart_budget import MOST_RESTARTS, WITHIN_SECONDS, RestartBudget
from distributor.observability.logging import get_logger
from distributor.store.embedded import EmbeddedValkey

logger = get_logger()


class EmbeddedKeeper:
    """One loop. It gives up where starting again does not help, because the process is then better ended as well."""

    def __init__(self, valkey: EmbeddedValkey) -> None:
        self._valkey = valkey
        self._budget = RestartBudget()

    async def run(self) -> None:
        """Restart it until cancelled. Raises Unavailable where it ended too often, and what keeps it from starting."""
        while True:
            await self.run_once()

    async def run_once(self) -> None:
        """Wait until it has ended, and start it again with the same data and url."""
        exit_code = await self._valkey.ended()
        if not self._budget.spend(asyncio.get_running_loop().time()):
            raise Unavailable(
                f"the embedded Valkey ended again (exit code {exit_code}) after {MOST_RESTARTS} restarts within "
                f"{WITHIN_SECONDS:g} s; see its log {self._valkey.log}",
                reason="EMBEDDED_VALKEY_FAILED",
            )
        logger.error("the embedded Valkey ended, starting it again", exit_code=exit_code)
        await self._valkey.restart()
        logger.info("the embedded Valkey runs again")
