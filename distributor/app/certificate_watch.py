"""Watches when certificates expire, for the metric and for log lines before and after that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from distributor.errors import ConfigurationError
from distributor.identity.certificate_expiry import Validity, validity_of
from distributor.observability.logging import get_logger
from distributor.wire.certificate_files import CertificateFiles

logger = get_logger()

INTERVAL_SECONDS: Final = 60.0
REPEAT_SECONDS: Final = 86_400.0
"""How often a line about a certificate is repeated."""
SOON_SECONDS: Final = 14 * 86_400.0
_SOON_PART: Final = 5
"""A short-lived certificate expires soon once less than a fifth of its time is left."""


class _State(Enum):
    VALID = "the certificate is valid"
    SOON = "the certificate expires soon"
    EXPIRED = "the certificate has expired"
    EARLY = "the certificate is not valid yet"


class CertificateWatch:
    """A background loop over the certificates of a process, by what they are for: `listen`, `server` or `valkey`."""

    def __init__(self, files: Mapping[str, CertificateFiles], registry: CollectorRegistry) -> None:
        self._files = {name: each for name, each in files.items() if each.paths.certificate is not None}
        self._said: dict[str, tuple[_State, float, float]] = {}
        self._seconds = Gauge(
            "distributor_certificate_expires_seconds",
            "Seconds until a certificate expires, negative once it has.",
            ["endpoint"],
            registry=registry,
        )

    async def run(self) -> None:
        """Look each minute."""
        while True:
            self.run_once(time.time())
            await asyncio.sleep(INTERVAL_SECONDS)

    def run_once(self, now: float) -> None:
        """Look once; `now` is in seconds since the epoch."""
        for endpoint, files in self._files.items():
            try:
                validity = validity_of(files.current().certificate)
            except ConfigurationError as error:
                logger.error("a certificate cannot be read", endpoint=endpoint, fault=str(error))
                continue
            self._seconds.labels(endpoint).set(validity.expires - now)
            state = _state(validity, now)
            last, expires, said_at = self._said.get(endpoint, (_State.VALID, 0.0, now))
            if state is _State.VALID:
                self._said.pop(endpoint, None)
            elif (state, validity.expires) != (last, expires) or now - said_at >= REPEAT_SECONDS:
                self._said[endpoint] = (state, validity.expires, now)
                _say(state, endpoint, files, validity)


def _state(validity: Validity, now: float) -> _State:
    if now >= validity.expires:
        return _State.EXPIRED
    if now < validity.starts:
        return _State.EARLY
    lifetime = validity.expires - validity.starts
    return _State.SOON if validity.expires - now < min(SOON_SECONDS, lifetime / _SOON_PART) else _State.VALID


def _say(state: _State, endpoint: str, files: CertificateFiles, validity: Validity) -> None:
    log = logger.warning if state is _State.SOON else logger.error
    moment = validity.starts if state is _State.EARLY else validity.expires
    at = datetime.fromtimestamp(moment, UTC).isoformat()
    log(state.value, endpoint=endpoint, file=str(files.paths.certificate), at=at)
