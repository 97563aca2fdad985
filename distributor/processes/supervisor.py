"""Restarts a child process when it ends."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from distributor.errors import Unavailable
from distributor.observability.logging import get_logger

logger = get_logger()


class Supervised(Protocol):
    """A started process."""

    async def ended(self) -> int:
        """Wait for the process to end, for any reason, and return its exit code."""

    async def restart(self) -> None:
        """Start the process again after it ended. Raises the error that prevents the start."""


class RestartBudget:
    """Allows `max_restarts` within `within_seconds`. Beyond that, another restart does not help."""

    def __init__(self, max_restarts: int = 3, within_seconds: float = 60.0) -> None:
        self.max_restarts = max_restarts
        self.within_seconds = within_seconds
        self._restarts: deque[float] = deque(maxlen=max_restarts)

    def spend(self, now: float) -> bool:
        """Count a restart at `now`, in seconds. Returns False, without counting it, if the budget is spent."""
        if len(self._restarts) == self.max_restarts and now - self._restarts[0] < self.within_seconds:
            return False
        self._restarts.append(now)
        return True


class Supervisor:
    """A background loop that restarts a process. It fails once the budget is spent, which ends this process as well."""

    def __init__(
        self, name: str, process: Supervised, *, reason: str, hint: str, budget: RestartBudget | None = None
    ) -> None:
        """Log lines begin with `name`. The final error has `reason` and `hint`, which says where to look."""
        self._name = name
        self._process = process
        self._reason = reason
        self._hint = hint
        self._budget = budget or RestartBudget()

    async def run(self) -> None:
        """Restart the process until cancelled. Raises Unavailable if it ends too often, or why a restart failed."""
        while True:
            await self.run_once()

    async def run_once(self) -> None:
        """Wait for the process to end, then restart it."""
        exit_code = await self._process.ended()
        if not self._budget.spend(asyncio.get_running_loop().time()):
            raise Unavailable(
                f"{self._name} ended again (exit code {exit_code}) after {self._budget.max_restarts} restarts within "
                f"{self._budget.within_seconds:g} s; {self._hint}",
                reason=self._reason,
            )
        logger.error(f"{self._name} ended, restarting it", exit_code=exit_code)
        await self._process.restart()
        logger.info(f"{self._name} is running again")
