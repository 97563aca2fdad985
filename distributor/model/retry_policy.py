"""Retry delays: exponential backoff with full jitter.

Full jitter draws the delay at random between zero and the bound, so that callers that failed together do not
retry together (M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Delays in milliseconds; at most `attempts` delivery attempts."""

    attempts: int = 3
    first_ms: int = 1_000
    max_ms: int = 60_000

    def bound_ms(self, attempt: int) -> int:
        """The longest delay after failed attempt number `attempt`, counted from 1."""
        doublings = min(max(attempt, 1) - 1, 30)
        return min(self.first_ms << doublings, self.max_ms)

    def delay_ms(self, attempt: int, random: float) -> int:
        """The delay after failed attempt number `attempt`, for a `random` in [0, 1)."""
        return int(self.bound_ms(attempt) * random)

    def exhausted(self, attempt: int) -> bool:
        """Whether attempt number `attempt` was the last."""
        return attempt >= self.attempts
