"""Verifies the audit trail, from what is stored and the checkpoints that others remember.

Everything is recomputed from the rows and the keys. The four verdicts are independent: a changed row does not mean that
rows are missing, nor the reverse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from distributor.errors import DistributorError
from distributor.identity.audit_chain import link_of
from distributor.identity.audit_checkpoint import AuditCheckpoint, is_ours
from distributor.identity.audit_head import AuditTampered, Authenticated, ChainHead, Manifest
from distributor.identity.audit_keys import AuditKeyRing, MissingAuditKey, text_of
from distributor.identity.audit_rows import BadRow, ReadRow, StoredRow, is_authentic, read
from distributor.identity.merkle_tree import MerkleTree
from distributor.model.audit_entry import AuditEvent
from distributor.model.audit_verdict import AuditVerdicts, Finding, Verdict

MAX_FINDINGS: Final = 20
"""Findings kept per verdict; further ones are only counted."""
FUTURE_MS: Final = 5_000
"""How far ahead of Valkey's clock a row may be."""


@dataclass(frozen=True, slots=True)
class NumberedRow:
    """A stored row and the number of the place where it was found."""

    number: int
    row: StoredRow


@dataclass(frozen=True, slots=True)
class Witness:
    """A checkpoint from outside, and who remembered it."""

    name: str
    checkpoint: AuditCheckpoint


@dataclass
class _Expected:
    """What the next row must be. `mac` None: not known, because rows are missing or unreadable."""

    seq: int
    mac: str | None
    at_ms: int
    tree: MerkleTree | None
    key_id: str


class AuditVerification:
    """One pass over the trail: `begin`, each segment's rows in order, then `verdicts`. No I/O."""

    def __init__(self, ring: AuditKeyRing, now_ms: int, witnesses: Iterable[Witness] = ()) -> None:
        self._ring = ring
        self._now_ms = now_ms
        self._witnesses = [*witnesses]
        self._wanted: dict[int, bytes | None] = {witness.checkpoint.size: None for witness in self._witnesses}
        """Roots of the tree at the sizes of the witnesses' checkpoints, once known."""
        self._findings: dict[Verdict, list[Finding]] = {verdict: [] for verdict in Verdict}
        self._counts = dict.fromkeys(Verdict, 0)
        self._manifests: dict[int, Manifest] = {}
        self._head: ChainHead | None = None
        self._rows = 0
        self._next = _Expected(1, "", 0, MerkleTree(), "")
        self._unverifiable = 0

    @property
    def segments(self) -> range:
        """The segments whose rows are to be passed to `add`."""
        return range(self._head.first_segment, self._head.segment.number + 1) if self._head else range(0)

    @property
    def last_seq(self) -> int:
        """The number of the last row by the head; rows beyond it are not to be passed to `add`."""
        return self._head.seq if self._head else 0

    def begin(self, head: Authenticated | None, manifests: Mapping[int, Authenticated]) -> None:
        """Read the head and the manifests of all closed segments."""
        if head is None:
            self._find(Verdict.COMPLETENESS, 0, "there is no audit trail")
            return
        try:
            self._head = ChainHead.read(head, self._ring)
        except MissingAuditKey as error:
            self._lacks_key(0, error)
            return
        except AuditTampered as error:
            self._find(Verdict.INTEGRITY, 0, str(error))
            return
        self._read_manifests(manifests)
        before = self._manifests.get(self._head.first_segment - 1)
        if before is not None:
            self._next = _Expected(
                before.last_seq + 1, before.last_mac, before.last_at_ms, before.tree(), before.key_id
            )
            self._reached(before.last_seq)
        elif self._head.first_segment > 1:
            self._next = _Expected(0, None, 0, None, "")

    def add(self, segment: int, rows: Sequence[NumberedRow]) -> None:
        """Verify rows of a segment, in the order in which they are stored."""
        for numbered in rows:
            self._rows += 1
            self._add(segment, numbered)

    def end_segment(self, segment: int) -> None:
        """Compare with the manifest, or with the head for the open segment."""
        assert self._head is not None
        manifest = self._manifests.get(segment)
        last_seq = manifest.last_seq if manifest is not None else self._head.seq
        last_mac = manifest.last_mac if manifest is not None else self._head.mac
        if segment < self._head.segment.number and manifest is None:
            return
        if self._next.seq <= last_seq:
            self._missing(self._next.seq, last_seq)
            tree = (manifest or self._head).tree()
            self._next = _Expected(last_seq + 1, last_mac, self._next.at_ms, tree, self._next.key_id)
            self._reached(last_seq)
        elif self._next.seq > last_seq + 1:
            self._find(Verdict.INTEGRITY, last_seq + 1, "rows were added after the end of the segment")
        elif self._next.mac is not None and self._next.mac != last_mac:
            self._find(Verdict.INTEGRITY, last_seq, "the last row is not the one that was written")

    def verdicts(self) -> AuditVerdicts:
        """The verdicts. Call once, at the end."""
        outside = [self._compare(witness) for witness in self._witnesses]
        pruned = self._manifests.get(self._head.first_segment - 1) if self._head else None
        return AuditVerdicts(
            rows=self._rows,
            last_seq=self._head.seq if self._head else 0,
            pruned_through=pruned.last_seq if pruned else 0,
            pruned_until_ms=pruned.last_at_ms if pruned else 0,
            origin=self._head.origin if self._head else "",
            witnesses=sum(outside),
            unverifiable=self._unverifiable,
            findings={verdict: tuple(found) for verdict, found in self._findings.items()},
            counts=dict(self._counts),
        )

    def _read_manifests(self, manifests: Mapping[int, Authenticated]) -> None:
        assert self._head is not None
        previous = ""
        for number in range(1, self._head.segment.number):
            try:
                if number not in manifests:
                    self._find(Verdict.COMPLETENESS, 0, f"the manifest of segment {number} is missing")
                    previous = "?"
                    continue
                manifest = Manifest.read(manifests[number], self._ring)
            except MissingAuditKey as error:
                self._lacks_key(0, error)
                previous = "?"
                continue
            except AuditTampered as error:
                self._find(Verdict.INTEGRITY, 0, f"segment {number}: {error}")
                previous = "?"
                continue
            if manifest.number != number or previous not in ("?", manifest.previous):
                self._find(Verdict.INTEGRITY, manifest.first_seq, f"the manifest of segment {number} is another's")
            self._manifests[number] = manifest
            previous = manifests[number].mac
        if previous not in ("?", self._head.manifest_mac):
            self._find(Verdict.INTEGRITY, 0, "the last manifest is not the one that was written")

    def _add(self, segment: int, numbered: NumberedRow) -> None:
        try:
            found = read(numbered.row.data, segment)
        except BadRow as error:
            self._find(Verdict.INTEGRITY, numbered.number, str(error))
            return self._skip(numbered)
        if not self._is_authentic(found, numbered):
            return self._skip(numbered)
        row = found.row
        if row.seq != numbered.number:
            self._find(Verdict.ORDER, numbered.number, f"row {row.seq} is in the place of row {numbered.number}")
            return self._skip(numbered)
        self._check_place(found)
        self._check_clock(row.seq, row.at_ms)
        self._check_key(found)
        tree = self._next.tree
        if row.entry.event is AuditEvent.ANCHORED and tree is not None:
            self._check_anchor(row.seq, row.entry.details, tree)
        if tree is not None:
            tree.append(numbered.row.data)
        self._next = _Expected(row.seq + 1, numbered.row.mac, max(row.at_ms, self._next.at_ms), tree, row.key_id)
        self._reached(row.seq)

    def _is_authentic(self, found: ReadRow, numbered: NumberedRow) -> bool:
        key = self._ring.get(found.row.key_id)
        if key is None:
            self._unverifiable += 1
            self._find(Verdict.INTEGRITY, numbered.number, f"audit_key_file lacks the key {found.row.key_id[:32]!r}")
            return False
        if not is_authentic(numbered.row, key):
            self._find(Verdict.INTEGRITY, numbered.number, "the row was not written with an audit key, or was changed")
            return False
        return True

    def _skip(self, numbered: NumberedRow) -> None:
        """Go on after an invalid row, whose place remains taken."""
        if self._next.seq and numbered.number > self._next.seq:
            self._missing(self._next.seq, numbered.number - 1)
        self._next = _Expected(
            max(self._next.seq, numbered.number + 1), None, self._next.at_ms, None, self._next.key_id
        )

    def _check_place(self, found: ReadRow) -> None:
        seq, expected = found.row.seq, self._next
        if expected.seq == 0:
            # The manifest before is missing, which has been found already.
            self._next = _Expected(seq, None, 0, None, "")
        elif seq > expected.seq:
            self._missing(expected.seq, seq - 1)
            self._next = _Expected(seq, None, expected.at_ms, None, expected.key_id)
        elif seq < expected.seq:
            self._find(Verdict.ORDER, seq, f"row {seq} comes after row {expected.seq - 1}")
        elif expected.mac is not None and found.previous != expected.mac:
            self._find(Verdict.INTEGRITY, seq, "the row does not continue the one before it")

    def _check_clock(self, seq: int, at_ms: int) -> None:
        if at_ms < self._next.at_ms:
            self._find(Verdict.CLOCK, seq, f"{self._next.at_ms - at_ms} ms earlier than a row before it")
        if at_ms > self._now_ms + FUTURE_MS:
            self._find(Verdict.CLOCK, seq, f"{at_ms - self._now_ms} ms in the future")

    def _check_key(self, found: ReadRow) -> None:
        """A younger key must be confirmed by the older one."""
        before, now = self._next.key_id, found.row.key_id
        if not before or before == now:
            return
        older, younger = self._ring.get(before), self._ring.get(now)
        link = found.row.entry.details.get("link") if found.row.entry.event is AuditEvent.KEY_ROTATED else None
        if older is None or younger is None or link != link_of(older, younger, found.previous):
            self._find(Verdict.INTEGRITY, found.row.seq, f"the key {now!r} is not confirmed by the key {before!r}")

    def _check_anchor(self, seq: int, details: Mapping[str, object], tree: MerkleTree) -> None:
        if details.get("size") != tree.size or details.get("root") != text_of(tree.root()):
            self._find(Verdict.INTEGRITY, seq, "the recorded checkpoint is not that of the rows before it")

    def _reached(self, seq: int) -> None:
        tree = self._next.tree
        if seq in self._wanted and tree is not None and tree.size == seq:
            self._wanted[seq] = tree.root()

    def _compare(self, witness: Witness) -> bool:
        """Compare with a checkpoint from outside. Return whether it confirms anything."""
        checkpoint, who = witness.checkpoint, witness.name
        genuine = is_ours(checkpoint, self._ring)
        if not genuine:
            # Anyone can bring a checkpoint; only one that we signed proves anything.
            return False
        if self._head is None or checkpoint.origin != self._head.origin:
            self._find(
                Verdict.COMPLETENESS, 0, f"{who} remembers another chain, {checkpoint.origin}: this one replaced it"
            )
            return False
        if checkpoint.size > self._head.seq:
            self._find(
                Verdict.COMPLETENESS,
                self._head.seq + 1,
                f"{who} remembers {checkpoint.size} rows, and only {self._head.seq} are left: the end was cut off",
            )
            return False
        root = self._wanted[checkpoint.size]
        if root is None:
            # In a pruned segment, or rows before it are missing, which has been found already.
            return False
        if root != checkpoint.root:
            self._find(Verdict.COMPLETENESS, checkpoint.size, f"{who} remembers other rows up to {checkpoint.size}")
            return False
        return True

    def _missing(self, first: int, last: int) -> None:
        which = f"row {first} is" if first == last else f"rows {first} to {last} are"
        self._find(Verdict.COMPLETENESS, first, f"{which} missing")

    def _lacks_key(self, seq: int, error: DistributorError) -> None:
        self._unverifiable += 1
        self._find(Verdict.INTEGRITY, seq, str(error))

    def _find(self, verdict: Verdict, seq: int, text: str) -> None:
        self._counts[verdict] += 1
        if len(self._findings[verdict]) < MAX_FINDINGS:
            self._findings[verdict].append(Finding(seq, text))
