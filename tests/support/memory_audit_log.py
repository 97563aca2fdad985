"""The AuditLog port in memory, which can be away, answer nothing, or have other writers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from distributor.dispatch.ports import AuditAppended, AuditLog, AuditState
from distributor.errors import Unavailable
from distributor.identity.audit_chain import ChainExtension
from distributor.identity.audit_head import Authenticated
from distributor.identity.audit_rows import read
from distributor.identity.audit_verification import NumberedRow
from distributor.model.audit_entry import AuditRow
from tests.support.memory_trail import MemoryTrail


class MemoryAuditLog:
    """Stores a MemoryTrail."""

    def __init__(self, trail: MemoryTrail | None = None) -> None:
        self.trail = trail or MemoryTrail()
        self.away = False
        self.answers_lost = 0
        """How many of the next appends are stored without an answer."""
        self.appends = 0
        self.settings: Mapping[str, str] | None = None

    async def state(self) -> AuditState:
        self._check()
        checkpoints = self.trail.checkpoints
        return AuditState(self.trail.now_ms, self.trail.head, checkpoints[-1].text if checkpoints else "")

    async def append(self, extension: ChainExtension) -> AuditAppended:
        self._check()
        stored = extension.before == self.trail.head
        if stored:
            self.appends += 1
            self.trail.store(extension)
            if self.answers_lost:
                self.answers_lost -= 1
                raise Unavailable("no answer came")
        return AuditAppended(stored, self.trail.now_ms, self.trail.head)

    async def rows(self, origin: str, segment: int, after: int, count: int) -> Sequence[NumberedRow]:
        self._check()
        found = sorted(self.trail.segments.get(segment, {}).items())
        return [NumberedRow(seq, row) for seq, row in found if seq > after][:count]

    async def rows_before(self, origin: str, segment: int, before: int, count: int) -> Sequence[NumberedRow]:
        self._check()
        found = sorted(self.trail.segments.get(segment, {}).items(), reverse=True)
        return [NumberedRow(seq, row) for seq, row in found if seq < before][:count]

    async def manifests(self, origin: str) -> Mapping[int, Authenticated]:
        self._check()
        return self.trail.manifests

    async def swap_settings(self, digests: Mapping[str, str]) -> Mapping[str, str] | None:
        self._check()
        before, self.settings = self.settings, digests
        return before

    def _check(self) -> None:
        if self.away:
            raise Unavailable("Valkey is away")

    def read(self) -> list[AuditRow]:
        """All rows, oldest first."""
        return [read(row.data).row for rows in self.trail.segments.values() for _, row in sorted(rows.items())]


def _declared(log: MemoryAuditLog) -> AuditLog:
    return log
