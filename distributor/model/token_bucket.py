"""A token bucket: an average rate, and a burst after a pause. Times are in seconds of any monotonic clock."""

from __future__ import annotations


class TokenBucket:
    """Starts full. Not thread-safe."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        """`rate` is in tokens per second; `burst` is how many it holds."""
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def take(self, amount: float, now: float) -> float:
        """Take tokens and return 0; or take none, and return the seconds after which they may be taken.

        More than the burst may be taken from a full bucket, which then owes the rest.
        """
        wait = self.wait(amount, now)
        if not wait:
            self._tokens -= amount
        return wait

    def wait(self, amount: float, now: float) -> float:
        """The seconds after which so many tokens may be taken; 0 for now."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        lacking = min(amount, self._burst) - self._tokens
        # Rounding must not make a caller wait that comes back exactly in time.
        return lacking / self._rate if lacking > 1e-9 * self._burst else 0.0
