from __future__ import annotations

from distributor.identity.audit_chain import Prune
from distributor.identity.audit_head import ChainHead, Manifest
from distributor.identity.audit_retention import AuditRetention, due, fullness
from tests.support.memory_trail import DAY_MS, MemoryTrail, queued

ALL = 10**12


def days(count: int) -> MemoryTrail:
    """A trail with a segment of seven rows for each day, and three rows today."""
    trail = MemoryTrail()
    for _ in range(count):
        trail.add(*[queued()] * 5)
        trail.now_ms += DAY_MS
    trail.add(queued())
    return trail


def found(trail: MemoryTrail, retention: AuditRetention) -> Prune | None:
    assert trail.head is not None
    manifests = {number: Manifest.read(one, trail.keys) for number, one in trail.manifests.items()}
    return due(ChainHead.read(trail.head, trail.keys), manifests, trail.now_ms, retention)


def test_nothing_is_due_within_all_bounds() -> None:
    assert found(days(5), AuditRetention(30 * DAY_MS, ALL, ALL)) is None


def test_a_segment_is_due_when_its_last_row_is() -> None:
    trail = days(5)
    prune = found(trail, AuditRetention(2 * DAY_MS + 1, ALL, ALL))
    assert prune is not None
    last = Manifest.read(trail.manifests[prune.through_segment], trail.keys)
    following = Manifest.read(trail.manifests[prune.through_segment + 1], trail.keys)
    assert last.last_at_ms < trail.now_ms - (2 * DAY_MS + 1) <= following.last_at_ms
    assert prune.last_seq == last.last_seq


def test_the_oldest_go_when_there_are_too_many_rows_or_bytes() -> None:
    trail = days(5)
    by_rows = found(trail, AuditRetention(ALL, 17, ALL))
    assert by_rows is not None
    assert by_rows.through_segment == 3, "three rows of today, and two days of seven"
    size_bytes = sum(len(row.data) for rows in list(trail.segments.values())[-3:] for row in rows.values())
    by_bytes = found(trail, AuditRetention(ALL, ALL, size_bytes))
    assert by_bytes is not None
    assert by_bytes.through_segment == 3


def test_the_open_segment_is_never_due() -> None:
    trail = days(2)
    prune = found(trail, AuditRetention(0, 0, 0))
    assert prune is not None
    assert prune.through_segment == 2


def test_nothing_is_pruned_before_a_manifest_that_is_missing() -> None:
    trail = days(5)
    del trail.manifests[5]
    assert found(trail, AuditRetention(0, 0, 0)) is None


def test_how_full_the_trail_is_by_rows_or_bytes() -> None:
    trail = days(5)
    assert trail.head is not None
    head = ChainHead.read(trail.head, trail.keys)
    manifests = {number: Manifest.read(one, trail.keys) for number, one in trail.manifests.items()}
    rows = sum(map(len, trail.segments.values()))
    size_bytes = sum(len(row.data) for segment in trail.segments.values() for row in segment.values())
    assert fullness(head, manifests, AuditRetention(ALL, 2 * rows, ALL)) == 0.5
    assert fullness(head, manifests, AuditRetention(ALL, ALL, 4 * size_bytes)) == 0.25
    assert fullness(head, {}, AuditRetention(ALL, head.segment.rows, ALL)) == 1.0
