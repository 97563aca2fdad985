"""Rows of the audit trail as JSON."""

from __future__ import annotations

from typing import Any

from distributor.model.audit_listing import ReadEntry
from distributor.wire.documents import time_text


def entry_document(found: ReadEntry) -> dict[str, Any]:
    """One row; only its number if it cannot be decoded."""
    if found.row is None:
        return {"sequence": found.number, "tampered": not found.authentic}
    row, entry = found.row, found.row.entry
    document: dict[str, Any] = {
        "sequence": row.seq,
        "time": time_text(row.at_ms),
        "type": entry.event.value,
        "code": entry.code,
        "outcome": entry.outcome.value,
        "actorKind": entry.actor.kind,
        "actor": entry.actor.subject,
        "onBehalfOf": entry.actor.on_behalf_of,
        "address": entry.actor.address,
        "agentId": entry.agent_id,
        "commandIds": list(entry.command_ids),
        "count": entry.count,
        "reason": entry.reason,
        "details": dict(entry.details),
        "keyId": row.key_id,
    }
    return document if found.authentic else {**document, "tampered": True}
