"""Keeps a process of ours running by starting it again when it ends."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from distributor.errors import Unavailable
from distributor.observability.logging import get_logger

logger = get_logger()


class Supervised(Protocol):
    """A process that has been started."""

    async def ended(self) -> int:
        """Wait for its end, by whatever cause; returns the exit code."""

    async def restart(self) -> None:
        """Start it again after it has ended by itself. Raises the reason why it cannot start."""


class RestartBudget:
    """At most `most` restarts within `within_seconds`: beyond that, another restart does not help."""

    def __init__(self, most: int = 3, within_seconds: float = 60.0) -> None:
        self.most = most
        self.within_seconds = within_seconds
        self._restarts: deque[float] = deque(maxlen=most)

    def spend(self, now: float) -> bool:
        """Count one more restart at `now`, in seconds. Returns False, and counts nothing, if that is one too many."""
        if len(self._restarts) == self.most and now - self._restarts[0] < self.within_seconds:
            return False
        self._restarts.append(now)
        return True


class Supervisor:
    """One loop. It gives up once the budget is spent, so that this process ends as well."""

    def __init__(
        self, name: str, process: Supervised, *, reason: str, hint: str, budget: RestartBudget | None = None
    ) -> None:
        """`name` begins the log lines. `reason` and `hint`, where to look, belong to the error that gives up."""
        self._name = name
        self._process = process
        self._reason = reason
        self._hint = hint
        self._budget = budget or RestartBudget()

    async def run(self) -> None:
        """Restart it until cancelled. Raises Unavailable when it ends too often, and the reason why it cannot start."""
        while True:
            await self.run_once()

    async def run_once(self) -> None:
        """Wait for its end and start it again."""
        exit_code = await self._process.ended()
        if not self._budget.spend(asyncio.get_running_loop().time()):
            raise Unavailable(
                f"{self._name} ended again (exit code {exit_code}) after {self._budget.most} restarts within "
                f"{self._budget.within_seconds:g} s; {self._hint}",
                reason=self._reason,
            )
        logger.error(f"{self._name} ended, starting it again", exit_code=exit_code)
        await self._process.restart()
        logger.info(f"{self._name} runs again")
