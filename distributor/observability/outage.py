"""Logs one line when an operation starts to fail and one when it recovers, however many retries lie between."""

from __future__ import annotations

import time
from typing import Final

from distributor.observability.logging import get_logger

logger = get_logger()

WAIT_AFTER_FAILURE_SECONDS: Final = 0.5
"""Delay before the next try in loops that have no interval of their own."""


class Outage:
    """Tracks whether an operation works, from the outcome of each try. Loops that do the same work may share one."""

    def __init__(self, work: str) -> None:
        """`work` completes the log lines "cannot …" and "can … again", such as "claim commands"."""
        self._work = work
        self._since: float | None = None

    def failed(self, error: Exception) -> None:
        """Record a failed try. Logs only the first of several."""
        if self._since is None:
            self._since = time.monotonic()
            logger.warning(f"cannot {self._work}", error=str(error))

    def recovered(self) -> None:
        """Record a successful try. Logs if the previous one failed."""
        if self._since is not None:
            lasted, self._since = time.monotonic() - self._since, None
            logger.info(f"can {self._work} again", after_seconds=round(lasted, 1))
