"""Limits what one caller may use of a server: calls and commands per second, and open streams."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from distributor.errors import ResourceExhausted
from distributor.identity.caller import Caller
from distributor.model.recent_peers import RecentPeers
from distributor.model.token_bucket import TokenBucket
from distributor.settings.caller_limits import CallerLimitSettings

MAX_CALLERS: Final = 10_000
"""Callers without a stream that are remembered. One that is forgotten begins again with full buckets."""
STREAM_RETRY_SECONDS: Final = 1.0


class _Buckets(NamedTuple):
    """What one caller may still do; None for any number."""

    calls: TokenBucket | None
    commands: TokenBucket | None


class CallerLimits:
    """Refuses the excess with ResourceExhausted and the time to wait. One event loop; memory is bounded."""

    def __init__(
        self,
        settings: CallerLimitSettings,
        clock: Callable[[], float] = time.monotonic,
        max_callers: int = MAX_CALLERS,
    ) -> None:
        """`clock` is in seconds."""
        self._settings = settings
        self._clock = clock
        self._callers = RecentPeers(self._buckets, max_callers)

    def __len__(self) -> int:
        return len(self._callers)

    def check_call(self, caller: Caller, address: str) -> None:
        """Count a call. Raises ResourceExhausted beyond `caller_call_rate`."""
        bucket = self._callers.of(_key(caller, address)).calls
        wait = bucket.take(1, self._clock()) if bucket else 0.0
        if wait:
            raise ResourceExhausted(
                f"{_name(caller)} makes more than {self._settings.caller_call_rate:,} calls per second, the limit "
                "(caller_call_rate)",
                reason="CALL_RATE_EXCEEDED",
                retry_after_seconds=wait,
            )

    def check_commands(self, caller: Caller, address: str, count: int) -> None:
        """Count commands to queue. Raises ResourceExhausted beyond `caller_command_rate`; then none may be queued."""
        bucket = self._callers.of(_key(caller, address)).commands
        wait = bucket.take(count, self._clock()) if bucket else 0.0
        if wait:
            raise ResourceExhausted(
                f"{_name(caller)} queues more than {self._settings.caller_command_rate:,} commands per second, the "
                "limit (caller_command_rate); nothing was queued",
                reason="COMMAND_RATE_EXCEEDED",
                retry_after_seconds=wait,
            )

    @contextmanager
    def stream(self, caller: Caller, address: str) -> Iterator[None]:
        """Count an open stream. Raises ResourceExhausted beyond `caller_streams`."""
        key = _key(caller, address)
        streams = self._callers.streams(key)
        if streams >= self._settings.caller_streams:
            raise ResourceExhausted(
                f"{_name(caller)} has {streams:,} watches open, the limit (caller_streams)",
                reason="TOO_MANY_STREAMS",
                retry_after_seconds=STREAM_RETRY_SECONDS,
            )
        with self._callers.stream(key):
            yield

    def _buckets(self) -> _Buckets:
        settings = self._settings
        calls, commands = (
            TokenBucket(rate, max(1.0, rate * settings.caller_burst), self._clock()) if rate else None
            for rate in (settings.caller_call_rate, settings.caller_command_rate)
        )
        return _Buckets(calls, commands)


def _key(caller: Caller, address: str) -> str:
    return caller.principal if caller.known else f"address:{address}"


def _name(caller: Caller) -> str:
    return str(caller) if caller.known else "this address"
