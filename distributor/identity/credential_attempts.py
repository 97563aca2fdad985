"""Limits failed credentials per address, since each check of a signature costs time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from distributor.errors import ResourceExhausted, Unauthenticated
from distributor.identity.tokens import Token, TokenVerifier
from distributor.model.token_bucket import TokenBucket
from distributor.wire.client_address import network_of

MAX_SOURCES: Final = 10_000
"""Sources of refused credentials that are remembered. One that is forgotten begins again with a full bucket."""


class CredentialAttempts:
    """Refuses unchecked the credentials of a source with too many failed ones. Memory is bounded.

    A source is an address, or a caller that has proved itself and forwards credentials of others. Tokens whose last
    check is remembered count whatever else comes from their address, which may be that of many hosts.
    """

    def __init__(
        self,
        rate: float,
        burst: float,
        clock: Callable[[], float] = time.monotonic,
        max_sources: int = MAX_SOURCES,
    ) -> None:
        """`rate` is in failures per second, 0 for no limit; `burst` are permitted at once. `clock` is in seconds."""
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._max_sources = max_sources
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def verify(self, verifier: TokenVerifier, token: str, source: str) -> Token:
        """Verify a token. Raises like the verifier, and ResourceExhausted instead of checking a signature."""
        if verifier.remembers(token):
            return verifier.verify(token)
        self.check(source)
        try:
            return verifier.verify(token)
        except Unauthenticated:
            # Hosts behind one address come back again and again with tokens that have expired, or whose key was
            # removed. These must not keep out their neighbours.
            if not verifier.refuses_unchecked(token):
                self.failed(source)
            raise

    def check(self, source: str) -> None:
        """Raise ResourceExhausted if nothing more of this source is to be checked now."""
        bucket = self._buckets.get(network_of(source))
        wait = bucket.wait(1, self._clock()) if bucket is not None else 0.0
        if wait:
            raise ResourceExhausted(
                "too many credentials that do not verify came from this address (failed_credentials_rate)",
                reason="TOO_MANY_FAILED_CREDENTIALS",
                retry_after_seconds=wait,
            )

    def failed(self, source: str) -> None:
        """Count a credential that does not verify."""
        if not self._rate:
            return
        key, now = network_of(source), self._clock()
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(self._rate, self._burst, now)
            if len(self._buckets) > self._max_sources:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        bucket.take(1, now)


UNLIMITED: Final = CredentialAttempts(0.0, 1.0)
