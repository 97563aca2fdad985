"""Records in the audit trail which callers connect and which are refused."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from distributor.dispatch.audit_recorder import Audit
from distributor.errors import DistributorError, PermissionDenied, ResourceExhausted, Unauthenticated
from distributor.identity.authenticator import REVOKED
from distributor.identity.caller import Caller, CallerKind
from distributor.model.audit_entry import AuditActor, AuditEntry, AuditEvent, AuditOutcome

REMEMBERED_SECONDS: Final = 3_600.0
"""A caller that has called from an address within this time has not connected anew."""
MAX_REMEMBERED: Final = 10_000

_REFUSALS: Final = (
    (Unauthenticated, AuditEvent.CALLER_REFUSED),
    (PermissionDenied, AuditEvent.PERMISSION_DENIED),
    (ResourceExhausted, AuditEvent.LIMIT_EXCEEDED),
)


class AuditedCallers:
    """Notes each caller once an hour, and each refusal. Use on one event loop."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self._seen: OrderedDict[tuple[str, str, str, str, tuple[str, ...]], float] = OrderedDict()

    def admitted(self, caller: Caller, now: float) -> None:
        """Record that a caller has connected, unless that was recorded recently. `now`: seconds of a monotonic clock.

        Agents are recorded when their session opens.
        """
        if caller.kind in (CallerKind.AGENT, CallerKind.UNKNOWN):
            return
        key = (caller.kind, caller.subject, caller.on_behalf_of, caller.address, caller.token_ids)
        known = self._seen.get(key)
        if known is not None and now - known < REMEMBERED_SECONDS:
            return
        self._seen[key] = now
        self._seen.move_to_end(key)
        if len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)
        details = {f"token_id_{n}" if n > 1 else "token_id": one for n, one in enumerate(caller.token_ids, start=1)}
        entry = AuditEntry(AuditEvent.CALLER_CONNECTED, actor_of(caller))
        self._audit.note(entry.with_details(**details, **via_of(caller)))

    def refused(self, error: Exception, caller: Caller, address: str, what: str) -> None:
        """Record an error if it is a refusal; `what` was refused, such as a method."""
        event = refusal_of(error)
        if event is None:
            return
        reason = error.reason if isinstance(error, DistributorError) else ""
        entry = AuditEntry(event, actor_of(caller, address), AuditOutcome.REFUSED, reason=reason)
        self._audit.note(entry.with_details(method=what, **via_of(caller), **_revoked_in(error)))


def refusal_of(error: Exception) -> AuditEvent | None:
    """The event that records a refusal; None for other errors."""
    return next((event for kind, event in _REFUSALS if isinstance(error, kind)), None)


def actor_of(caller: Caller, address: str = "") -> AuditActor:
    """A caller as an actor; `address` is where an unknown one called from."""
    return AuditActor(caller.kind.value, caller.subject, caller.on_behalf_of, caller.address or address)


def _revoked_in(error: Exception) -> Mapping[str, str]:
    """Whose certificate was refused as it is revoked, as details: the caller itself counts as unknown."""
    whose = error.metadata.get(REVOKED) if isinstance(error, DistributorError) else None
    return {REVOKED: whose} if whose else {}


def via_of(caller: Caller) -> Mapping[str, str]:
    """Where the service is that called for a user at another address, as details."""
    return {"via": caller.via} if caller.via else {}
