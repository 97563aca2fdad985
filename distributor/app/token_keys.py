"""Keeps the keys of tokens current: reads key files again when they change, and a key set by URL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from distributor.app.key_set_fetch import fetched_keys
from distributor.errors import ConfigurationError, Unavailable
from distributor.identity.token_keys import KeyRing, TokenKey, key_ring
from distributor.identity.tokens import Revoked, TokenRules, TokenVerifier
from distributor.observability.logging import get_logger
from distributor.observability.outage import Outage
from distributor.settings.tokens import TokenSettings
from distributor.tasks import first_of

logger = get_logger()

FILE_CHECK_SECONDS: Final = 2.0
REFETCH_SECONDS: Final = 30.0
"""Minimum time between fetches because of unknown keys, whatever callers send."""
RETRY_SECONDS: Final = 15.0
"""Time after which a fetch that failed is repeated."""

_Stamps = tuple[tuple[int, int, int] | None, ...]


class TokenKeys:
    """The keys of a process, and the verifier that uses them. Reads files and URLs in threads.

    Keys that cannot be read any more stay in use, with one log line until they can be read again.
    """

    def __init__(self, settings: TokenSettings, revoked: Revoked, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the key files. `clock` is in seconds. Raises ConfigurationError for unusable files."""
        self._clock = clock
        self._settings = settings
        self._stamps = _stamps(settings)
        self._ring = key_ring(settings.shared_keys(), settings.public_pems())
        self._fetched: tuple[TokenKey, ...] = ()
        self._fetch_due = 0.0
        self._may_refetch = 0.0
        self._wanted = asyncio.Event()
        self._files = Outage("read token keys")
        self._url = Outage("read jwks_url")
        rules = TokenRules(settings.token_issuer, settings.token_audience, settings.token_leeway)
        self.verifier = TokenVerifier(self._ring, rules, revoked, self._refetch)

    async def start(self) -> None:
        """Fetch the key set once, so that a process that serves knows its keys; not having it is no error."""
        await self.run_once(self._clock())

    async def run(self) -> None:
        """Keep the keys current until cancelled. An issuer that is slow does not delay the files."""
        await first_of(self._run_files(), self._run_fetches())

    async def _run_files(self) -> None:
        while True:
            await asyncio.sleep(FILE_CHECK_SECONDS)
            await self._read_files()

    async def _run_fetches(self) -> None:
        while True:
            self._wanted.clear()
            try:
                async with asyncio.timeout(FILE_CHECK_SECONDS):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            await self._fetch_if_due(self._clock())

    async def run_once(self, now: float) -> None:
        """Read what has changed or is due at `now`, a monotonic time in seconds."""
        await self._read_files()
        await self._fetch_if_due(now)

    async def _fetch_if_due(self, now: float) -> None:
        if self._settings.jwks_url and now >= self._fetch_due:
            await self._fetch(now)

    def _refetch(self) -> bool:
        """Have the key set fetched for a token of an unknown key; False if that was done lately."""
        now = self._clock()
        if not self._settings.jwks_url or now < self._may_refetch:
            return False
        self._may_refetch, self._fetch_due = now + REFETCH_SECONDS, now
        self._wanted.set()
        return True

    async def _read_files(self) -> None:
        stamps = await asyncio.to_thread(_stamps, self._settings)
        if stamps == self._stamps:
            return
        try:
            self._ring = await asyncio.to_thread(_ring_of, self._settings)
        except ConfigurationError as error:
            self._files.failed(error)
            return
        self._stamps = stamps
        self._use()
        self._files.recovered()
        logger.info("token keys changed", key_ids=[key.key_id for key in self._ring.keys if key.key_id])

    async def _fetch(self, now: float) -> None:
        try:
            self._fetched = await asyncio.to_thread(fetched_keys, self._settings.jwks_url)
        except Unavailable as error:
            self._url.failed(error)
            self._fetch_due = now + min(RETRY_SECONDS, self._settings.jwks_interval)
        else:
            self._use()
            self._url.recovered()
            self._fetch_due = now + self._settings.jwks_interval

    def _use(self) -> None:
        self.verifier.use(self._ring.with_keys(self._fetched))


def _ring_of(settings: TokenSettings) -> KeyRing:
    return key_ring(settings.shared_keys(), settings.public_pems())


def _stamps(settings: TokenSettings) -> _Stamps:
    return tuple(map(_stamp, (*settings.token_key_file, *settings.public_keys)))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is written or replaced; None if it cannot be found."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
