"""How long to wait before the next stream: decided by how the last one ended. Pure; chance is passed in."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from distributor.model.retry_policy import RetryPolicy


class StreamOutcome(Enum):
    """What an ended stream says about the next."""

    CONFIRMED = auto()
    """It worked: the server had answered a heartbeat on it."""
    FAILED = auto()
    """It did not come about, or ended before that. A Welcome alone proves nothing: what we say next may end it."""
    BY_DESIGN = auto()
    """The server goes, and says so. No failure, so the wait does not grow."""


class ReconnectBackoff:
    """Exponential with full jitter: at random up to 1 s after the first failure in a row, doubling up to 60 s."""

    def __init__(self, random: Callable[[], float], policy: RetryPolicy | None = None) -> None:
        self._random = random
        self._policy = policy or RetryPolicy()
        self._failures = 0

    def delay(self, outcome: StreamOutcome) -> float:
        """Seconds to wait after a stream that ended so."""
        if outcome is StreamOutcome.BY_DESIGN:
            return self._policy.delay_ms(1, self._random()) / 1000
        self._failures = 1 if outcome is StreamOutcome.CONFIRMED else self._failures + 1
        return self._policy.delay_ms(self._failures, self._random()) / 1000

    def confirm(self) -> None:
        """A stream that worked has ended as it should."""
        self._failures = 0
