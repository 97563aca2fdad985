"""Rows of the audit trail as API Activity of OCSF (class 6003), and verdicts as JSON."""

from __future__ import annotations

from typing import Any, Final

import distributor
from distributor.model.audit_entry import AuditEntry, AuditEvent, AuditOutcome
from distributor.model.audit_listing import ReadEntry, VerifiedAudit
from distributor.model.audit_verdict import Verdict
from distributor.wire.documents import time_text

OCSF_VERSION: Final = "1.3.0"
_CLASS: Final = 6003
_CATEGORY: Final = 6
_CREATE, _READ, _UPDATE, _DELETE, _OTHER = 1, 2, 3, 4, 99
_ACTIVITY_NAMES: Final = {_CREATE: "Create", _READ: "Read", _UPDATE: "Update", _DELETE: "Delete", _OTHER: "Other"}
_ACTIVITIES: Final = {
    AuditEvent.COMMAND_QUEUED: _CREATE,
    AuditEvent.COMMAND_RETRIED: _CREATE,
    AuditEvent.COMMAND_CANCELLED: _UPDATE,
    AuditEvent.COMMAND_FINISHED: _UPDATE,
    AuditEvent.COMMAND_SENT: _UPDATE,
    AuditEvent.COMMAND_READ: _READ,
    AuditEvent.AUDIT_READ: _READ,
    AuditEvent.AGENT_ENROLLED: _CREATE,
    AuditEvent.AGENT_RENEWED: _UPDATE,
    AuditEvent.AGENT_REVOKED: _DELETE,
    AuditEvent.TOKEN_MINTED: _CREATE,
    AuditEvent.TOKEN_REVOKED: _DELETE,
    AuditEvent.SERVICE_REVOKED: _DELETE,
    AuditEvent.PRUNED: _DELETE,
    AuditEvent.SETTINGS_CHANGED: _UPDATE,
    AuditEvent.EMERGENCY_STOPPED: _UPDATE,
    AuditEvent.EMERGENCY_RESUMED: _UPDATE,
}
_SEVERITIES: Final = {AuditOutcome.REFUSED: (2, "Low"), AuditOutcome.FAILED: (3, "Medium")}
_INFORMATIONAL: Final = (1, "Informational")


def ocsf_document(found: ReadEntry) -> dict[str, Any] | None:
    """One row as an API Activity event; None for a row that cannot be decoded."""
    if found.row is None:
        return None
    row, entry = found.row, found.row.entry
    activity = _ACTIVITIES.get(entry.event, _OTHER)
    severity_id, severity = _SEVERITIES.get(entry.outcome, _INFORMATIONAL)
    success = entry.outcome in (AuditOutcome.SUCCESS, AuditOutcome.ATTEMPT)
    return {
        "class_uid": _CLASS,
        "class_name": "API Activity",
        "category_uid": _CATEGORY,
        "category_name": "Application Activity",
        "activity_id": activity,
        "activity_name": _ACTIVITY_NAMES[activity],
        "type_uid": _CLASS * 100 + activity,
        "time": row.at_ms,
        "severity_id": severity_id,
        "severity": severity,
        "status_id": 1 if success else 2,
        "status": "Success" if success else "Failure",
        "status_code": entry.code,
        "status_detail": entry.reason,
        "count": entry.count,
        "metadata": {
            "version": OCSF_VERSION,
            "uid": str(row.seq),
            "sequence": row.seq,
            "event_code": entry.code,
            "log_name": "audit",
            "product": {
                "name": "command distributor",
                "vendor_name": "command distributor",
                "version": distributor.__version__,
            },
        },
        "actor": _actor(entry),
        "api": {"operation": entry.event.value, "service": {"name": "distributor"}},
        "src_endpoint": {"ip": entry.actor.address} if entry.actor.address else {"name": "server"},
        "resources": [
            *([{"type": "agent", "uid": entry.agent_id}] if entry.agent_id else []),
            *({"type": "command", "uid": command_id} for command_id in entry.command_ids),
        ],
        "unmapped": {**entry.details, "outcome": entry.outcome.value, "key_id": row.key_id}
        | ({} if found.authentic else {"tampered": True}),
    }


def verification_document(verified: VerifiedAudit) -> dict[str, Any]:
    """The verdicts as JSON."""
    verdicts = verified.verdicts
    return {
        "ok": verdicts.ok,
        "rows": verdicts.rows,
        "lastSequence": verdicts.last_seq,
        "prunedThrough": verdicts.pruned_through,
        "prunedUntil": time_text(verdicts.pruned_until_ms) if verdicts.pruned_until_ms else None,
        "origin": verdicts.origin,
        "witnesses": verdicts.witnesses,
        "unverifiable": verdicts.unverifiable,
        "verdicts": {
            one.value: {
                "holds": verdicts.holds(one),
                "count": verdicts.counts[one],
                "findings": [{"sequence": found.seq, "text": found.text} for found in verdicts.findings[one]],
            }
            for one in Verdict
        },
        "checkpoint": verified.checkpoint,
    }


def _actor(entry: AuditEntry) -> dict[str, Any]:
    """A service that acts for a user is the session's issuer."""
    actor = entry.actor
    name = actor.on_behalf_of or actor.subject
    document: dict[str, Any] = {"user": {"name": name, "type": actor.kind if not actor.on_behalf_of else "user"}}
    if actor.on_behalf_of:
        document["invoked_by"] = actor.subject
    return document
