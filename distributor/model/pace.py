"""Whether so much comes that it pays to let it gather: a message costs about the same whatever it carries."""

from __future__ import annotations

WINDOW_SECONDS = 0.05


class Pace:
    """Counts what passes. Busy once more than `busy_per_second` passed in the last full window. Time is passed in."""

    def __init__(self, busy_per_second: float) -> None:
        self._most_in_a_window = busy_per_second * WINDOW_SECONDS
        self._window_began = 0.0
        self._passed = 0
        self.busy = False

    def note(self, count: int, now: float) -> bool:
        """`count` more passed at `now`, in seconds; returns whether it is busy."""
        if now - self._window_began >= WINDOW_SECONDS:
            # After a pause longer than a window nothing of the window before counts.
            fresh = now - self._window_began < 2 * WINDOW_SECONDS
            self.busy = fresh and self._passed > self._most_in_a_window
            self._window_began, self._passed = now, 0
        self._passed += count
        return self.busy
