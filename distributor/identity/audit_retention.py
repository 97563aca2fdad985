"""Which segments of the audit trail are past their retention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from distributor.identity.audit_chain import Prune
from distributor.identity.audit_head import ChainHead, Manifest


@dataclass(frozen=True, slots=True)
class AuditRetention:
    """How much is kept. Only closed segments are pruned, so that all bounds are exceeded by up to one segment."""

    retention_ms: int
    max_rows: int
    max_bytes: int


def fullness(head: ChainHead, manifests: Mapping[int, Manifest], retention: AuditRetention) -> float:
    """Return the part of the bounds on rows and bytes that the kept segments fill, from 0 to about 1."""
    kept = manifests.values()
    rows = head.segment.rows + sum(one.last_seq - one.first_seq + 1 for one in kept)
    size_bytes = head.segment.size_bytes + sum(one.size_bytes for one in kept)
    return max(rows / retention.max_rows, size_bytes / retention.max_bytes)


def due(head: ChainHead, manifests: Mapping[int, Manifest], now_ms: int, retention: AuditRetention) -> Prune | None:
    """What to prune; None if nothing is due. A segment is due when its last row is, or when newer ones fill a bound."""
    rows, size_bytes = head.segment.rows, head.segment.size_bytes
    for number in range(head.segment.number - 1, head.first_segment - 1, -1):
        manifest = manifests.get(number)
        if manifest is None:
            return None
        rows += manifest.last_seq - manifest.first_seq + 1
        size_bytes += manifest.size_bytes
        too_old = manifest.last_at_ms < now_ms - retention.retention_ms
        if too_old or rows > retention.max_rows or size_bytes > retention.max_bytes:
            return Prune(number, manifest.last_seq)
    return None
