"""Extends the audit trail: numbers, chains and authenticates rows, opens segments, rotates keys, makes checkpoints.

Pure: `extended` returns what to store. Storing it requires that the head is unchanged, so several writers extend one
chain.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from distributor.identity import audit_checkpoint
from distributor.identity.audit_checkpoint import AuditCheckpoint
from distributor.identity.audit_head import Authenticated, ChainHead, Manifest, Segment
from distributor.identity.audit_keys import AuditKey, AuditKeyRing, text_of
from distributor.identity.audit_rows import Place, StoredRow, stored
from distributor.identity.merkle_tree import MerkleTree
from distributor.model.audit_entry import AuditEntry, AuditEvent, Detail

LINK: Final = b"distributor audit link"
"""The label by which the older key confirms a younger one."""
DELAYED_MS: Final = 1_000
"""A row that is written later than this after its event says so."""


@dataclass(frozen=True, slots=True)
class ChainPolicy:
    """When to open a segment, and when to make a checkpoint. A checkpoint is made only if there is something new."""

    segment_ms: int = 86_400_000
    segment_rows: int = 50_000
    segment_bytes: int = 33_554_432
    checkpoint_ms: int = 300_000
    checkpoint_rows: int = 1_000


@dataclass(frozen=True, slots=True)
class Happened:
    """An entry, and when it happened by Valkey's clock."""

    entry: AuditEntry
    at_ms: int


@dataclass(frozen=True, slots=True)
class Prune:
    """Drop all segments up to and including one. `last_seq` is the number of its last row."""

    through_segment: int
    last_seq: int


@dataclass(frozen=True, slots=True)
class ChainExtension:
    """What to store atomically if the head still is `before` (None: if there is no chain).

    `manifest` closes the segment before; `unlink` are the numbers of segments to drop.
    """

    before: Authenticated | None
    head: ChainHead
    stored_head: Authenticated
    rows: tuple[StoredRow, ...]
    manifest: tuple[int, Authenticated] | None = None
    unlink: tuple[int, ...] = ()
    checkpoint: AuditCheckpoint | None = None


def extended(
    before: Authenticated | None,
    happened: Sequence[Happened],
    now_ms: int,
    ring: AuditKeyRing,
    policy: ChainPolicy,
    prune: Prune | None = None,
) -> ChainExtension | None:
    """Extend the chain by entries and by any checkpoint or segment that is due; None if there is nothing to add.

    Raises AuditTampered if the head was not written with a key of the ring, MissingAuditKey if with an unknown one.
    """
    writer = _Writer(before, now_ms, ring)
    if writer.is_segment_full(policy):
        writer.open_segment()
    writer.rotate_key_if_due()
    for one in happened:
        writer.add(one.entry, one.at_ms)
    if prune is not None:
        writer.prune(prune)
    writer.anchor_if_due(policy)
    return writer.extension()


def link_of(older: AuditKey, younger: AuditKey, last_mac: str) -> str:
    """Return the MAC with which the older key confirms the younger one, from after the row with `last_mac` on."""
    return older.mac(LINK, f"{younger.key_id} {text_of(younger.public)} {last_mac}".encode())


class _Writer:
    """One extension in the making."""

    def __init__(self, before: Authenticated | None, now_ms: int, ring: AuditKeyRing) -> None:
        self._before = before
        self._now_ms = now_ms
        self._ring = ring
        self._rows: list[StoredRow] = []
        self._manifest: tuple[int, Authenticated] | None = None
        self._unlink: tuple[int, ...] = ()
        self._checkpoint: AuditCheckpoint | None = None
        self._at_ms, self._mac, self._segment_rows, self._segment_bytes = 0, "", 0, 0
        if before is None:
            self._begin()
        else:
            self._base = ChainHead.read(before, ring)
            self._key, self._tree = ring.key(self._base.key_id), self._base.tree()
            self._set_head(self._base)

    def _begin(self) -> None:
        now_ms, self._key, self._tree = self._now_ms, self._ring.current, MerkleTree()
        origin = f"distributor/audit/{secrets.token_hex(8)}"
        first = Segment(1, 1, now_ms)
        self._set_head(ChainHead(origin, 0, now_ms, "", self._key.key_id, (), first, anchored_at_ms=now_ms))
        self.add(AuditEntry(AuditEvent.CHAIN_STARTED, details={"origin": origin}), now_ms)

    def is_segment_full(self, policy: ChainPolicy) -> bool:
        segment = self._base.segment
        if not segment.rows or self._rows:
            return False
        same_period = segment.first_at_ms // policy.segment_ms == self._now_ms // policy.segment_ms
        full = segment.rows >= policy.segment_rows or segment.size_bytes >= policy.segment_bytes
        return full or (self._now_ms > segment.first_at_ms and not same_period)

    def open_segment(self) -> None:
        """Close the open segment, and begin the next one with a row that names the manifest."""
        head, segment = self._head, self._head.segment
        manifest = Manifest(
            segment.number,
            segment.first_seq,
            head.seq,
            segment.first_at_ms,
            head.at_ms,
            segment.size_bytes,
            head.mac,
            head.hashes,
            self._key.key_id,
            head.manifest_mac,
        )
        document = manifest.stored(self._key)
        self._manifest = (segment.number, document)
        opened = Segment(segment.number + 1, head.seq + 1, max(self._now_ms, head.at_ms))
        self._set_head(replace(head, segment=opened, manifest_mac=document.mac))
        details: dict[str, Detail] = {"segment": opened.number, "manifest": document.mac}
        self.add(AuditEntry(AuditEvent.SEGMENT_OPENED, details=details), self._now_ms)

    def rotate_key_if_due(self) -> None:
        older, younger = self._key, self._ring.current
        if older is not younger:
            link = link_of(older, younger, self._mac)
            self._key = younger
            details: dict[str, Detail] = {"old": older.key_id, "new": younger.key_id, "link": link}
            self.add(AuditEntry(AuditEvent.KEY_ROTATED, details=details), self._now_ms)

    def prune(self, prune: Prune) -> None:
        """Drop segments, unless another writer has done so."""
        head = self._head
        through = min(prune.through_segment, head.segment.number - 1)
        if through < head.first_segment:
            return
        self._unlink = tuple(range(head.first_segment, through + 1))
        self._set_head(replace(head, first_segment=through + 1))
        details: dict[str, Detail] = {"through_segment": through, "through_seq": prune.last_seq}
        self.add(AuditEntry(AuditEvent.PRUNED, details=details), self._now_ms)

    def anchor_if_due(self, policy: ChainPolicy) -> None:
        """Make a checkpoint of all rows so far, and record it in the next one."""
        new_rows = self._tree.size - self._base.anchored_seq
        waited_ms = self._now_ms - self._base.anchored_at_ms
        if new_rows < 1 or (new_rows < policy.checkpoint_rows and waited_ms < policy.checkpoint_ms):
            return
        head = self._head
        self._checkpoint = audit_checkpoint.signed(head.origin, head.seq, self._tree.root(), self._key)
        details: dict[str, Detail] = {"size": head.seq, "root": text_of(self._checkpoint.root)}
        self.add(AuditEntry(AuditEvent.ANCHORED, details=details), self._now_ms)
        self._set_head(replace(self._head, anchored_seq=self._tree.size, anchored_at_ms=self._now_ms))

    def add(self, entry: AuditEntry, at_ms: int) -> None:
        placed_at_ms = max(self._at_ms, at_ms)
        if placed_at_ms - at_ms > DELAYED_MS:
            entry = entry.with_details(delayed_ms=placed_at_ms - at_ms)
        row = stored(entry, Place(self._tree.size + 1, placed_at_ms, self._mac), self._key)
        self._rows.append(row)
        self._tree.append(row.data)
        self._at_ms, self._mac = placed_at_ms, row.mac
        self._segment_rows += 1
        self._segment_bytes += len(row.data)

    def _set_head(self, head: ChainHead) -> None:
        self._base = head
        self._at_ms, self._mac = head.at_ms, head.mac
        self._segment_rows, self._segment_bytes = head.segment.rows, head.segment.size_bytes

    @property
    def _head(self) -> ChainHead:
        return replace(
            self._base,
            seq=self._tree.size,
            at_ms=self._at_ms,
            mac=self._mac,
            key_id=self._key.key_id,
            hashes=self._tree.hashes,
            segment=replace(self._base.segment, rows=self._segment_rows, size_bytes=self._segment_bytes),
        )

    def extension(self) -> ChainExtension | None:
        if not self._rows:
            return None
        head = self._head
        document = head.stored(self._key)
        return ChainExtension(
            self._before, head, document, tuple(self._rows), self._manifest, self._unlink, self._checkpoint
        )
