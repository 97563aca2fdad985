"""Rows of the audit trail as administrators see them."""

from __future__ import annotations

from typing import NamedTuple

from distributor.model.audit_entry import AuditRow
from distributor.model.audit_verdict import AuditVerdicts


class ReadEntry(NamedTuple):
    """A row, None if it cannot be decoded; its number; whether it is authentic."""

    number: int
    row: AuditRow | None
    authentic: bool


class AuditPage(NamedTuple):
    """Entries, newest first, and the token of the next page, "" on the last."""

    entries: list[ReadEntry]
    next_token: str


class VerifiedAudit(NamedTuple):
    """The verdicts, and the last checkpoint, "" if there is none yet."""

    verdicts: AuditVerdicts
    checkpoint: str
