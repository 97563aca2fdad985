"""Estimates how many short commands are in progress at a time."""

from __future__ import annotations

from typing import Final

WINDOW_SECONDS: Final = 0.05


class Concurrency:
    """Counts the commands assigned in this window or the one before that have not ended.

    A command that runs longer is not counted: however many of them there are, the next one finds an idle system. The
    count is an estimate, as an end does not say which command it ends. Times are arguments, in seconds.
    """

    def __init__(self) -> None:
        self._window_began = 0.0
        self._now, self._before = 0, 0

    def began(self, count: int, now: float) -> None:
        """Count commands that were just assigned."""
        self._roll(now)
        self._now += count

    def ended(self, count: int, now: float) -> None:
        """Count commands that have just ended."""
        self._roll(now)
        from_before = min(count, self._before)
        self._before -= from_before
        self._now = max(0, self._now - (count - from_before))

    def in_progress(self, now: float) -> int:
        """About how many short commands are in progress."""
        self._roll(now)
        return self._now + self._before

    def _roll(self, now: float) -> None:
        windows = (now - self._window_began) // WINDOW_SECONDS
        if windows:
            self._before = self._now if windows == 1 else 0
            self._now, self._window_began = 0, now
