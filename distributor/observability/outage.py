"""One line when something stops working and one when it works again, however often it was tried meanwhile."""

from __future__ import annotations

import time
from typing import Final

from distributor.observability.logging import get_logger

logger = get_logger()

WAIT_AFTER_FAILURE_SECONDS: Final = 0.5
"""What a loop waits before it tries again, where nothing else sets its pace."""


class Outage:
    """Whether work can be done, told by what becomes of each try. For one loop, or several that do the same work."""

    def __init__(self, work: str) -> None:
        """`work` is what it does, such as "claim commands": the lines are "cannot …" and "can … again"."""
        self._work = work
        self._since: float | None = None

    def failed(self, error: Exception) -> None:
        """A try failed. Only the first of several is told."""
        if self._since is None:
            self._since = time.monotonic()
            logger.warning(f"cannot {self._work}", error=str(error))

    def over(self) -> None:
        """A try succeeded. Told where the one before failed."""
        if self._since is not None:
            lasted, self._since = time.monotonic() - self._since, None
            logger.info(f"can {self._work} again", after_seconds=round(lasted, 1))
