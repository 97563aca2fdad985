"""When to open a cut stream again, and when to stop trying."""

from __future__ import annotations

import asyncio
import math
import time

from distributor.client.options import ClientOptions, Reach
from distributor.errors import DistributorError, Unavailable


class Deadline:
    """A point in time that a wait must not pass; infinitely far where `seconds` is None."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = math.inf if seconds is None else seconds
        self._at = time.monotonic() + self._seconds

    @property
    def exists(self) -> bool:
        """Whether the wait is bounded at all."""
        return self._at < math.inf

    @property
    def remaining_seconds(self) -> float | None:
        """What is left, never negative; None without a bound: what a call takes as its timeout."""
        return max(0.0, self._at - time.monotonic()) if self.exists else None

    def error(self) -> TimeoutError:
        """The error that says that it passed."""
        return TimeoutError(f"not ended after {self._seconds:g} s of waiting")


class ServerReach:
    """Whether the server is away, as all streams of one client see it: tells `ClientOptions.on_reach`, once for all."""

    def __init__(self, target: str, options: ClientOptions) -> None:
        self._target = target
        self._options = options
        self._told = False

    def lasts(self) -> None:
        """A cut stream could not be opened again at once."""
        if not self._told:
            self._told = True
            self._tell(Reach(self._target, False, self._options.give_up_after_seconds))

    def over(self) -> None:
        """The server said something."""
        if self._told:
            self._told = False
            self._tell(Reach(self._target, True))

    def _tell(self, reach: Reach) -> None:
        if self._options.on_reach is not None:
            self._options.on_reach(reach)


class Reconnecting:
    """The state of one stream that is opened again when it is cut. Not shared between streams, except for `outage`."""

    def __init__(self, options: ClientOptions, deadline: Deadline, outage: ServerReach) -> None:
        self._options = options
        self._deadline = deadline
        self._outage = outage
        self._failures = 0
        self._reached = False
        self._away_since = 0.0

    def progressed(self) -> None:
        """The server said something: the next cut is a new one."""
        self._failures = 0
        self._reached = True
        self._outage.over()

    async def pause(self, error: DistributorError) -> None:
        """Wait until the stream may be opened again after `error`.

        Raises `error` where trying again is no use, or the server was away for too long; TimeoutError at the deadline.
        """
        if not isinstance(error, Unavailable):
            raise error
        if self._deadline.remaining_seconds == 0.0 or (error.reason == "DEADLINE_EXCEEDED" and self._deadline.exists):
            raise self._deadline.error() from error
        now = time.monotonic()
        if not self._failures:
            self._away_since = now
        self._failures += 1
        if self._given_up(now):
            raise error
        if self._reached and self._failures > 1:
            self._outage.lasts()
        await asyncio.sleep(self._delay(error))

    def _given_up(self, now: float) -> bool:
        """A server that was never reached gets as many tries as a call; one that was, time to come back."""
        if self._reached:
            return now - self._away_since > self._options.give_up_after_seconds
        return self._options.calls.exhausted(self._failures)

    def _delay(self, error: DistributorError) -> float:
        delay = self._options.reconnects.delay_ms(self._failures, self._options.jitter()) / 1000
        delay = max(delay, error.retry_after_seconds or 0.0)
        remaining = self._deadline.remaining_seconds
        return delay if remaining is None else min(delay, remaining)
