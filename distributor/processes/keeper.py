"""Keeps a process of our own running: nobody else would start it again."""

from __future__ import annotations

import asyncio
from typing import Protocol

from distributor.errors import Unavailable
from distributor.observability.logging import get_logger
from distributor.processes.restart_budget import MOST_RESTARTS, WITHIN_SECONDS, RestartBudget

logger = get_logger()


class Kept(Protocol):
    """A process that has been started."""

    async def ended(self) -> int:
        """Return its exit code once it has ended, whoever ended it."""

    async def restart(self) -> None:
        """Start it again after it has ended by itself. Raises what keeps it from starting."""


class Keeper:
    """One loop. It gives up where starting again does not help, because we are then better ended as well."""

    def __init__(self, name: str, kept: Kept, *, reason: str, hint: str) -> None:
        """`name` begins the log lines; `reason` and `hint`, where to look, are of the error that gives up."""
        self._name = name
        self._kept = kept
        self._reason = reason
        self._hint = hint
        self._budget = RestartBudget()

    async def run(self) -> None:
        """Restart it until cancelled. Raises Unavailable where it ended too often, and what keeps it from starting."""
        while True:
            await self.run_once()

    async def run_once(self) -> None:
        """Wait until it has ended, and start it again."""
        exit_code = await self._kept.ended()
        if not self._budget.spend(asyncio.get_running_loop().time()):
            raise Unavailable(
                f"{self._name} ended again (exit code {exit_code}) after {MOST_RESTARTS} restarts within "
                f"{WITHIN_SECONDS:g} s; {self._hint}",
                reason=self._reason,
            )
        logger.error(f"{self._name} ended, starting it again", exit_code=exit_code)
        await self._kept.restart()
        logger.info(f"{self._name} runs again")
