"""An audit trail in memory, stored as a store would, which tests can damage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from distributor.identity.audit_chain import ChainExtension, ChainPolicy, Happened, Prune, extended
from distributor.identity.audit_checkpoint import AuditCheckpoint
from distributor.identity.audit_head import Authenticated
from distributor.identity.audit_keys import AuditKeyRing, new_key_line
from distributor.identity.audit_rows import StoredRow
from distributor.identity.audit_verification import AuditVerification, NumberedRow, Witness
from distributor.model.audit_entry import AuditActor, AuditEntry, AuditEvent
from distributor.model.audit_verdict import AuditVerdicts

DAY_MS: Final = 86_400_000
START_MS: Final = 1_700_000_000_000
ALICE: Final = AuditActor("user", "alice", address="192.0.2.7")


def ring(*key_ids: str) -> AuditKeyRing:
    """A ring of new keys."""
    return AuditKeyRing.parse("".join(new_key_line(key_id) for key_id in key_ids or ("k1",)))


def queued(number: int = 1) -> AuditEntry:
    """An entry."""
    return AuditEntry(AuditEvent.COMMAND_QUEUED, ALICE, agent_id="press-7", command_ids=(f"c{number}",))


class MemoryTrail:
    """What is stored: the head, the manifests, and the rows of each segment by their numbers."""

    def __init__(self, keys: AuditKeyRing | None = None, policy: ChainPolicy | None = None) -> None:
        self.keys = keys or ring()
        self.policy = policy or ChainPolicy()
        self.head: Authenticated | None = None
        self.manifests: dict[int, Authenticated] = {}
        self.segments: dict[int, dict[int, StoredRow]] = {}
        self.checkpoints: list[AuditCheckpoint] = []
        self.now_ms = START_MS

    def add(self, *entries: AuditEntry, prune: Prune | None = None) -> ChainExtension | None:
        """Extend the trail, as one writer does."""
        happened = [Happened(entry, self.now_ms) for entry in entries]
        extension = extended(self.head, happened, self.now_ms, self.keys, self.policy, prune)
        if extension is not None:
            self.store(extension)
        return extension

    def store(self, extension: ChainExtension) -> None:
        """Store an extension. The head must be the one that it extends."""
        assert extension.before == self.head
        if extension.manifest is not None:
            number, document = extension.manifest
            self.manifests[number] = document
        rows = self.segments.setdefault(extension.head.segment.number, {})
        first = extension.head.seq - len(extension.rows) + 1
        rows.update(enumerate(extension.rows, start=first))
        for number in extension.unlink:
            del self.segments[number]
        if extension.checkpoint is not None:
            self.checkpoints.append(extension.checkpoint)
        self.head = extension.stored_head

    @property
    def rows(self) -> dict[int, StoredRow]:
        """Those of the only segment."""
        (rows,) = self.segments.values()
        return rows

    def verify(
        self, witnesses: Iterable[AuditCheckpoint] = (), keys: AuditKeyRing | None = None, page: int = 3
    ) -> AuditVerdicts:
        """Verify what is stored."""
        remembered = [Witness(f"agent-{n}", one) for n, one in enumerate(witnesses, start=1)]
        verification = AuditVerification(keys or self.keys, self.now_ms, remembered)
        verification.begin(self.head, self.manifests)
        for segment in verification.segments:
            found = [NumberedRow(n, row) for n, row in self.segments.get(segment, {}).items()]
            for first in range(0, len(found), page):
                verification.add(segment, found[first : first + page])
            verification.end_segment(segment)
        return verification.verdicts()


def texts(verdicts: AuditVerdicts) -> Sequence[str]:
    """All findings as text, such as `integrity 3 the row …`."""
    return [f"{verdict} {one.seq} {one.text}" for verdict, found in verdicts.findings.items() for one in found]
