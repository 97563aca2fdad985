"""Decides when Started, Output and Results wait for others to travel with. Does no I/O.

A message costs about 100 µs of CPU at each end, whatever it contains.
"""

from __future__ import annotations

from typing import Final

GATHER_SECONDS: Final = 0.002
"""Longest wait. Far below what anybody notices, and longer than a quick handler takes."""


class Gathering:
    """Two reasons to wait, each for at most GATHER_SECONDS. Times are seconds of a monotonic clock.

    Handlers that were called together and have not ended, or whose Results are being written to the journal: those may
    follow at once. And Results sent a moment ago while other commands run: more may follow. So a command that is alone
    waits only for its own.
    """

    def __init__(self) -> None:
        self._expected: set[str] = set()
        self._expected_until = 0.0
        self._results_until = 0.0

    def expect(self, command_id: str, now: float) -> None:
        """Note that a part may follow soon: a handler was called, or the journal is being written for it."""
        if not self._expected or now >= self._expected_until:
            self._expected.clear()
            self._expected_until = now + GATHER_SECONDS
        self._expected.add(command_id)

    def ready(self, command_id: str) -> None:
        """Note that a Result may be sent."""
        self._expected.discard(command_id)

    def results_sent(self, now: float) -> None:
        """Note that a message with Results left."""
        self._results_until = now + GATHER_SECONDS

    def until(self, now: float, others_run: bool) -> float | None:
        """When waiting ends; None if there is no reason to wait."""
        called_until = self._expected_until if self._expected else 0.0
        until = max(called_until, self._results_until) if others_run else called_until
        return until if until > now else None
