"""Paces agents that attach, so that a crowd that reconnects does not overwhelm the server."""

from __future__ import annotations

from typing import Final

SHORTEST_WAIT_SECONDS: Final = 0.5


class AttachPace:
    """A token bucket. Agents that get no token are given different times at which to return. Time is passed in."""

    def __init__(self, per_second: float) -> None:
        """`per_second` agents may attach, and as many at once."""
        self._per_second = per_second
        self._tokens = per_second
        self._filled_at: float | None = None
        self._line_ends = 0.0

    def admit(self, now: float) -> float | None:
        """Admit an agent at `now`, in seconds: None, or after how many seconds to return."""
        if self._filled_at is not None:
            earned = (now - self._filled_at) * self._per_second
            self._tokens = min(max(self._per_second, 1.0), self._tokens + earned)
        self._filled_at = now
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return None
        return self.later(now)

    def later(self, now: float) -> float:
        """Seconds after which an agent that cannot attach at `now` may try again: one after the other."""
        self._line_ends = max(self._line_ends, now + SHORTEST_WAIT_SECONDS) + 1.0 / self._per_second
        return self._line_ends - now
