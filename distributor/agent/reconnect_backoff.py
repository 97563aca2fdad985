"""The delay before the next stream, depending on how the last one ended. Pure; the random source is an argument."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from distributor.model.retry_policy import RetryPolicy


class StreamOutcome(Enum):
    """How a stream ended, as far as it matters for the next."""

    CONFIRMED = auto()
    """The server had answered a heartbeat on it."""
    FAILED = auto()
    """It could not be opened, or ended earlier. A Welcome is not enough: the next message may end the stream."""
    BY_DESIGN = auto()
    """The server announced its shutdown. Not a failure, so the delay does not grow."""
    PACED = auto()
    """The server said when to return, as it is busy or has no store. Not a failure either."""


class ReconnectBackoff:
    """Exponential backoff with full jitter: up to 1 s after the first consecutive failure, doubling up to 60 s."""

    def __init__(self, random: Callable[[], float], policy: RetryPolicy | None = None) -> None:
        self._random = random
        self._policy = policy or RetryPolicy()
        self._failures = 0

    def delay(self, outcome: StreamOutcome) -> float:
        """Seconds to wait after a stream with this outcome."""
        if outcome in (StreamOutcome.BY_DESIGN, StreamOutcome.PACED):
            return self._policy.delay_ms(1, self._random()) / 1000
        self._failures = 1 if outcome is StreamOutcome.CONFIRMED else self._failures + 1
        return self._policy.delay_ms(self._failures, self._random()) / 1000

    def confirm(self) -> None:
        """Reset the backoff after a working stream ended normally."""
        self._failures = 0
