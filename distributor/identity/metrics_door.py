"""Admits readers of metrics: viewers whose grants exclude nothing, since metrics count what all callers do."""

from __future__ import annotations

import time
from typing import Final, Protocol

from distributor.errors import DistributorError, PermissionDenied, Unauthenticated
from distributor.identity.authenticator import Authenticator
from distributor.identity.caller import ANYONE, Caller
from distributor.identity.permissions import ROUTES, check_permitted
from distributor.wire.http_credentials import HttpCredentials

METRICS: Final = "/metrics"


class DoorRecord(Protocol):
    """Records who was admitted and who was refused."""

    def admitted(self, caller: Caller, now: float) -> None:
        """Record that a caller was admitted. `now` is in seconds of a monotonic clock."""

    def refused(self, error: DistributorError, caller: Caller, address: str, what: str) -> None:
        """Record an error if it is a refusal; `caller` is ANYONE unless known, `what` is the route."""


class MetricsDoor:
    """Admits requests for /metrics by token, or by the client certificate of a service."""

    def __init__(self, authenticator: Authenticator, required: str, record: DoorRecord | None = None) -> None:
        """`required` names the credentials that count, for the answer to a request without any."""
        self._authenticator = authenticator
        self._required = required
        self._record = record

    async def admit(self, request: HttpCredentials) -> None:
        """Check a request, and record who was admitted or refused.

        Raises Unauthenticated, PermissionDenied, and Unavailable while the key of its token is being fetched.
        """
        caller = ANYONE
        try:
            caller = await self._caller(request)
            check_permitted(caller, ROUTES[METRICS], f"GET {METRICS}")
            if not caller.grants.everything:
                raise PermissionDenied(
                    "metrics count everything, and the caller is narrowed by grants", reason="NOT_GRANTED"
                )
        except DistributorError as error:
            if self._record is not None:
                self._record.refused(error, caller, request.address, METRICS)
            raise
        if self._record is not None:
            self._record.admitted(caller, time.monotonic())

    async def _caller(self, request: HttpCredentials) -> Caller:
        caller = await self._authenticator.caller(request.metadata(), request.transport, request.address)
        if caller is None:
            raise Unauthenticated(self._required, reason="CREDENTIALS_REQUIRED")
        return caller
