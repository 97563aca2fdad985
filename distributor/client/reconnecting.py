"""When to reopen a cut stream, and when to give up."""

from __future__ import annotations

import asyncio
import math
import time

from distributor.client.options import ClientOptions, Connectivity
from distributor.errors import DistributorError, Unavailable


class Deadline:
    """A point in time that bounds a wait; none if `seconds` is None."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = math.inf if seconds is None else seconds
        self._at = time.monotonic() + self._seconds

    @property
    def exists(self) -> bool:
        """Whether the wait is bounded."""
        return self._at < math.inf

    @property
    def remaining_seconds(self) -> float | None:
        """Remaining seconds, at least 0, as the timeout of a call; None if unbounded."""
        return max(0.0, self._at - time.monotonic()) if self.exists else None

    def error(self) -> TimeoutError:
        """The error to raise when it has passed."""
        return TimeoutError(f"not ended after {self._seconds:g} s of waiting")


class ConnectivityReporter:
    """Reports outages to `ClientOptions.on_connectivity`, once for all streams of a client."""

    def __init__(self, target: str, options: ClientOptions) -> None:
        self._target = target
        self._options = options
        self._reported = False

    def lost(self) -> None:
        """Report that a cut stream could not be reopened at once."""
        if not self._reported:
            self._reported = True
            self._report(Connectivity(self._target, False, self._options.give_up_after_seconds))

    def restored(self) -> None:
        """Report that the server answered, after an outage was reported."""
        if self._reported:
            self._reported = False
            self._report(Connectivity(self._target, True))

    def _report(self, connectivity: Connectivity) -> None:
        if self._options.on_connectivity is not None:
            self._options.on_connectivity(connectivity)


class ReconnectState:
    """The reconnect state of one stream. Only `connectivity` is shared between streams."""

    def __init__(self, options: ClientOptions, deadline: Deadline, connectivity: ConnectivityReporter) -> None:
        self._options = options
        self._deadline = deadline
        self._connectivity = connectivity
        self._failures = 0
        self._reached = False
        self._unreachable_since = 0.0

    def progressed(self) -> None:
        """Note that the server answered: the next cut is a new outage."""
        self._failures = 0
        self._reached = True
        self._connectivity.restored()

    async def pause(self, error: DistributorError) -> None:
        """Wait until the stream may be reopened after `error`.

        Raises `error` if a retry is pointless or the server was unreachable for too long; TimeoutError at the deadline.
        """
        if not isinstance(error, Unavailable):
            raise error
        if self._deadline.remaining_seconds == 0.0 or (error.reason == "DEADLINE_EXCEEDED" and self._deadline.exists):
            raise self._deadline.error() from error
        now = time.monotonic()
        if not self._failures:
            self._unreachable_since = now
        self._failures += 1
        if self._gives_up(now):
            raise error
        if self._reached and self._failures > 1:
            self._connectivity.lost()
        await asyncio.sleep(self._delay(error))

    def _gives_up(self, now: float) -> bool:
        """Whether to give up: a server never reached gets as many tries as a call, others get time to return."""
        if self._reached:
            return now - self._unreachable_since > self._options.give_up_after_seconds
        return self._options.calls.exhausted(self._failures)

    def _delay(self, error: DistributorError) -> float:
        delay = self._options.reconnects.delay_ms(self._failures, self._options.jitter()) / 1000
        delay = max(delay, error.retry_after_seconds or 0.0)
        remaining = self._deadline.remaining_seconds
        return delay if remaining is None else min(delay, remaining)
