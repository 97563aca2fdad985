"""Keeps a process of our own running: nobody else would start it again."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol

from distributor.errors import Unavailable
from distributor.observability.logging import get_logger

logger = get_logger()

MOST_RESTARTS: Final = 3
WITHIN_SECONDS: Final = 60.0


class Kept(Protocol):
    """A process that has been started."""

    async def ended(self) -> int:
        """Return its exit code once it has ended, whoever ended it."""

    async def restart(self) -> None:
        """Start it again after it has ended by itself. Raises what keeps it from starting."""


class Supervisor:
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


class RestartBudget:
    """At most MOST_RESTARTS within WITHIN_SECONDS: more often than that, starting again does not help."""

    def __init__(self) -> None:
        self._restarts: deque[float] = deque(maxlen=MOST_RESTARTS)

    def spend(self, now: float) -> bool:
        """Whether one more restart is permitted at `now`, in seconds; if so, it counts."""
        if len(self._restarts) == MOST_RESTARTS and now - self._restarts[0] < WITHIN_SECONDS:
            return False
        self._restarts.append(now)
        return True
