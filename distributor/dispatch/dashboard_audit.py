"""Records in the audit trail what bridges report of their dashboards."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from distributor.dispatch.audit_recorder import Audit
from distributor.identity.caller import Caller
from distributor.model.audit_entry import AuditActor, AuditEntry, AuditEvent, AuditOutcome, Detail
from distributor.model.dashboard_event import DashboardEvent, DashboardEventKind

LATE_MS: Final = 5_000
"""Reports that come later than this say by how much; rows have the time at which they are recorded."""

_EVENTS: Final = {
    DashboardEventKind.RESULT_READ: AuditEvent.COMMAND_READ,
    DashboardEventKind.OUTPUT_READ: AuditEvent.COMMAND_READ,
    DashboardEventKind.CONNECTED: AuditEvent.DASHBOARD_CONNECTED,
    DashboardEventKind.DISCONNECTED: AuditEvent.DASHBOARD_DISCONNECTED,
    DashboardEventKind.CALLER_REFUSED: AuditEvent.CALLER_REFUSED,
    DashboardEventKind.PERMISSION_DENIED: AuditEvent.PERMISSION_DENIED,
    DashboardEventKind.LIMIT_EXCEEDED: AuditEvent.LIMIT_EXCEEDED,
}
_READS: Final = {DashboardEventKind.RESULT_READ: "result", DashboardEventKind.OUTPUT_READ: "output"}
_REFUSALS: Final = frozenset({AuditEvent.CALLER_REFUSED, AuditEvent.PERMISSION_DENIED, AuditEvent.LIMIT_EXCEEDED})


class DashboardAudit:
    """Notes the events that a bridge reports, under the bridge's name on behalf of its user."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    def record(self, bridge: Caller, events: Iterable[DashboardEvent], lost: int) -> None:
        """Record events that were checked, and how many more the bridge has lost. Nothing of an unknown caller."""
        if not bridge.known:
            return
        for event in events:
            self._audit.note(_entry(bridge, event))
        if lost:
            actor = AuditActor(bridge.kind.value, bridge.subject, address=bridge.address)
            self._audit.note(AuditEntry(AuditEvent.GAP, actor, AuditOutcome.FAILED, count=lost))


def _entry(bridge: Caller, event: DashboardEvent) -> AuditEntry:
    kind = _EVENTS[event.kind]
    details: dict[str, Detail] = {"via": bridge.address}
    if event.kind in _READS:
        details["read"] = _READS[event.kind]
    if event.method:
        details["method"] = event.method
    if event.token_id:
        details["token_id"] = event.token_id
    if event.age_ms >= LATE_MS:
        details["seconds_late"] = event.age_ms // 1_000
    return AuditEntry(
        kind,
        AuditActor(bridge.kind.value, bridge.subject, event.user, event.address),
        AuditOutcome.REFUSED if kind in _REFUSALS else AuditOutcome.SUCCESS,
        command_ids=event.command_ids,
        reason=event.reason,
        count=event.count,
        details=details,
    )
