"""The stored form of an entry in the audit trail: canonical JSON, and its MAC."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from distributor.identity.audit_keys import AuditKey
from distributor.model.audit_entry import (
    MAX_DETAILS,
    MAX_IDS,
    MAX_TEXT,
    AuditActor,
    AuditEntry,
    AuditEvent,
    AuditOutcome,
    AuditRow,
    Detail,
)

ROW_VERSION: Final = 1
ROW: Final = b"distributor audit row"
"""The label of rows' MACs."""


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row as it is stored: what `stored` makes, and the MAC over it."""

    data: bytes
    mac: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row belongs: its number, its time, and the MAC of the row before it."""

    seq: int
    at_ms: int
    previous: str


def stored(entry: AuditEntry, place: Place, key: AuditKey) -> StoredRow:
    """Encode an entry for its place in the chain, and authenticate it."""
    fields: dict[str, Any] = {
        "v": ROW_VERSION,
        "seq": place.seq,
        "at": place.at_ms,
        "type": entry.event,
        "code": entry.code,
        "outcome": entry.outcome,
        "actor": _actor(entry.actor),
        "kid": key.key_id,
        "prev": place.previous,
    }
    if entry.agent_id:
        fields["agent"] = _cut(entry.agent_id)
    if entry.command_ids:
        fields["commands"] = [_cut(one) for one in entry.command_ids[:MAX_IDS]]
    if entry.count != 1:
        fields["count"] = entry.count
    if entry.reason:
        fields["reason"] = _cut(entry.reason)
    if entry.details:
        fields["details"] = {_cut(name): _detail(value) for name, value in list(entry.details.items())[:MAX_DETAILS]}
    data = canonical(fields)
    return StoredRow(data, key.mac(ROW, data))


def canonical(fields: Mapping[str, Any]) -> bytes:
    """JSON with sorted names, no spaces and ASCII only: one form for one meaning."""
    return _ENCODER.encode(fields).encode()


def is_authentic(row: StoredRow, key: AuditKey) -> bool:
    """Whether a row was written with this key."""
    return hmac.compare_digest(key.mac(ROW, row.data).encode(), row.mac.encode())


class BadRow(ValueError):
    """What is stored is not a row in canonical form."""


@dataclass(frozen=True, slots=True)
class ReadRow:
    """A decoded row, not verified yet."""

    row: AuditRow
    previous: str


def read(data: bytes, segment: int = 0) -> ReadRow:
    """Decode what `stored` encoded. Raises BadRow."""
    try:
        fields = json.loads(data)
        # Other bytes with the same meaning are not what was written.
        if canonical(fields) != data or fields["v"] != ROW_VERSION:
            raise BadRow("not in canonical form, or of a later version")
        entry = AuditEntry(
            AuditEvent(fields["type"]),
            AuditActor(**fields["actor"]),
            AuditOutcome(fields["outcome"]),
            fields.get("agent", ""),
            tuple(fields.get("commands", ())),
            fields.get("reason", ""),
            int(fields.get("count", 1)),
            fields.get("details", {}),
        )
        row = AuditRow(int(fields["seq"]), int(fields["at"]), entry, str(fields["kid"]), segment)
        return ReadRow(row, str(fields["prev"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadRow(f"not a row: {type(error).__name__}") from error


_ENCODER: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _actor(actor: AuditActor) -> dict[str, str]:
    fields = {"kind": actor.kind}
    for name in ("subject", "on_behalf_of", "address"):
        value = getattr(actor, name)
        if value:
            fields[name] = _cut(value)
    return fields


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _detail(value: Detail) -> Detail:
    return _cut(value) if isinstance(value, str) else value
