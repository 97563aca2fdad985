"""How often something that ends by itself is started again before that is given up. Time is passed in."""

from __future__ import annotations

from collections import deque

MOST_RESTARTS = 3
WITHIN_SECONDS = 60.0


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
