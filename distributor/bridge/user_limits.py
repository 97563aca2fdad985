"""Limits what one user, or one address whose user is not known yet, may use of a bridge."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from distributor.errors import ResourceExhausted
from distributor.identity.caller import Caller
from distributor.model.token_bucket import TokenBucket
from distributor.settings.bridge_limits import BridgeLimitSettings
from distributor.wire.client_address import network_of

MAX_USERS: Final = 10_000
"""Users whose messages are counted. One that is forgotten begins again with a full bucket."""
CONNECTIONS_RETRY_SECONDS: Final = 10.0
URGENT_TYPES: Final = frozenset({"command:interrupt", "emergency:stop", "emergency:resume"})
"""Messages that end an overload must not wait for its end: they are counted apart from all others."""


class UserLimits:
    """Refuses the excess with ResourceExhausted and the time to wait. One event loop.

    Memory is bounded: connections are limited in all, and only MAX_USERS have a bucket.
    """

    def __init__(
        self,
        settings: BridgeLimitSettings,
        clock: Callable[[], float] = time.monotonic,
        max_users: int = MAX_USERS,
    ) -> None:
        """`clock` is in seconds."""
        self._settings = settings
        self._clock = clock
        self._max_users = max_users
        self._buckets: OrderedDict[tuple[str, bool], TokenBucket] = OrderedDict()
        self._dashboards: Counter[str] = Counter()
        self._strangers: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._buckets) + len(self._dashboards) + len(self._strangers)

    def check_message(self, caller: Caller, type_: str = "") -> None:
        """Count a message or request. Raises ResourceExhausted beyond `user_message_rate`."""
        rate = self._settings.user_message_rate
        if not rate:
            return
        now, user = self._clock(), (caller.principal, type_ in URGENT_TYPES)
        bucket = self._buckets.get(user)
        if bucket is None:
            bucket = TokenBucket(rate, max(1.0, rate * self._settings.user_message_burst), now)
            self._buckets[user] = bucket
            if len(self._buckets) > self._max_users:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(user)
        wait = bucket.take(1, now)
        if wait:
            raise ResourceExhausted(
                f"{caller} sends more than {rate:,g} messages and requests per second, the limit (user_message_rate)",
                reason="MESSAGE_RATE_EXCEEDED",
                retry_after_seconds=wait,
            )

    @contextmanager
    def dashboard(self, caller: Caller) -> Iterator[None]:
        """Count a connected dashboard. Raises ResourceExhausted beyond `user_connections`."""
        with self._counted(
            self._dashboards, caller.principal, self._settings.user_connections, f"{caller} (user_connections)"
        ):
            yield

    @contextmanager
    def stranger(self, address: str) -> Iterator[None]:
        """Count a connection whose user is not known. Raises ResourceExhausted beyond `address_connections`."""
        with self._counted(
            self._strangers,
            network_of(address),
            self._settings.address_connections,
            "this address (address_connections)",
        ):
            yield

    @contextmanager
    def _counted(self, counts: Counter[str], key: str, most: int, of_whom: str) -> Iterator[None]:
        if counts[key] >= most:
            raise ResourceExhausted(
                f"the limit of {most:,} connections of {of_whom} is reached",
                reason="TOO_MANY_CONNECTIONS",
                retry_after_seconds=CONNECTIONS_RETRY_SECONDS,
            )
        counts[key] += 1
        try:
            yield
        finally:
            counts[key] -= 1
            if not counts[key]:
                del counts[key]


UNLIMITED: Final = UserLimits(
    BridgeLimitSettings(user_message_rate=0, user_connections=100_000, address_connections=100_000)
)
