"""Detects load at which batching pays: a message costs about the same whatever it carries."""

from __future__ import annotations

WINDOW_SECONDS = 0.05


class Pace:
    """Measures a rate. Busy if the last full window exceeded `busy_per_second`. Times are arguments."""

    def __init__(self, busy_per_second: float) -> None:
        self._max_per_window = busy_per_second * WINDOW_SECONDS
        self._window_began = 0.0
        self._passed = 0
        self.busy = False

    def note(self, count: int, now: float) -> bool:
        """Count `count` more at `now` (seconds) and return whether the rate is busy."""
        if now - self._window_began >= WINDOW_SECONDS:
            # After a pause longer than a window, the window before it no longer counts.
            fresh = now - self._window_began < 2 * WINDOW_SECONDS
            self.busy = fresh and self._passed > self._max_per_window
            self._window_began, self._passed = now, 0
        self._passed += count
        return self.busy
