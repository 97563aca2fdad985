"""Reads and verifies the audit trail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from distributor.dispatch.ports import AuditLog, AuditState
from distributor.errors import DistributorError, InvalidArgument
from distributor.identity.audit_checkpoint import parsed
from distributor.identity.audit_head import Authenticated, ChainHead, Manifest
from distributor.identity.audit_keys import AuditKeyRing
from distributor.identity.audit_rows import BadRow, is_authentic, read
from distributor.identity.audit_verification import AuditVerification, NumberedRow, Witness
from distributor.model.audit_filter import AuditFilter
from distributor.model.audit_listing import AuditPage, ReadEntry
from distributor.model.audit_verdict import AuditVerdicts

ROWS_AT_ONCE: Final = 500
"""Rows read and decoded together: about five milliseconds."""
MAX_LOOKED_AT: Final = 20_000
"""Rows that one page looks at."""
FOLLOW_SECONDS: Final = 1.0
MAX_CHECKPOINTS: Final = 100


@dataclass(frozen=True, slots=True)
class _Segment:
    number: int
    first_seq: int
    last_seq: int
    last_at_ms: int | None = None
    """None for the open one."""


MAX_TOKEN_DIGITS: Final = 15
"""More than the number of any row has; Valkey takes no longer ids."""


class AuditReading:
    """Use cases of administrators. Safe for concurrent use on one event loop."""

    def __init__(
        self,
        log: AuditLog,
        keys: Callable[[], AuditKeyRing],
        remembered: Callable[[], Iterable[Witness]] = tuple,
    ) -> None:
        """`remembered` returns the checkpoints that agents have said to remember."""
        self._log = log
        self._keys = keys
        self._remembered = remembered

    async def page(self, wanted: AuditFilter, token: str, size: int) -> AuditPage:
        """One page, newest first. Raises InvalidArgument for an invalid page token, and errors of the trail's head."""
        if token and not (token.isascii() and token.isdigit() and len(token) <= MAX_TOKEN_DIGITS):
            raise InvalidArgument("page_token is not one of this list", field="page_token", reason="INVALID_PAGE_TOKEN")
        head = await self._head()
        if head is None:
            return AuditPage([], "")
        entries: list[ReadEntry] = []
        looked_at = 0
        async with aclosing(self._backwards(head, int(token) if token else head.seq + 1, wanted.after_ms)) as pieces:
            async for found in pieces:
                for one in found:
                    if _permits(wanted, one):
                        entries.append(one)
                        if len(entries) == size:
                            return AuditPage(entries, str(one.number))
                looked_at += len(found)
                if looked_at >= MAX_LOOKED_AT:
                    return AuditPage(entries, str(found[-1].number))
                await asyncio.sleep(0)
        return AuditPage(entries, "")

    async def _backwards(self, head: ChainHead, before: int, after_ms: int) -> AsyncGenerator[list[ReadEntry], None]:
        """All rows before one, newest first, down to a time."""
        for segment in reversed(await self._segments(head)):
            if segment.first_seq >= before:
                continue
            if segment.last_at_ms is not None and segment.last_at_ms < after_ms:
                return
            while rows := await self._log.rows_before(head.origin, segment.number, before, ROWS_AT_ONCE):
                before = rows[-1].number
                yield [self._read(numbered, segment.number) for numbered in rows]

    async def export(
        self, wanted: AuditFilter, after_seq: int, *, follow: bool = False
    ) -> AsyncGenerator[list[ReadEntry], None]:
        """Yield matching entries after a row, oldest first; with `follow`, go on with new ones until closed."""
        while True:
            head = await self._head()
            for segment in await self._segments(head) if head is not None else []:
                if segment.last_seq <= after_seq:
                    continue
                assert head is not None
                while rows := await self._log.rows(head.origin, segment.number, after_seq, ROWS_AT_ONCE):
                    after_seq = rows[-1].number
                    found = [self._read(numbered, segment.number) for numbered in rows]
                    if entries := [one for one in found if _permits(wanted, one)]:
                        yield entries
                    await asyncio.sleep(0)
            if not follow:
                return
            await asyncio.sleep(FOLLOW_SECONDS)

    async def verify(self, checkpoints: Sequence[str]) -> AuditVerdicts:
        """Verify all that is kept, with these checkpoints and those of agents. Raises InvalidArgument for others."""
        witnesses = [*self._remembered(), *_given(checkpoints)]
        state = await self._log.state()
        while True:
            verdicts = await self._verify(state, witnesses)
            later = await self._log.state()
            # Rows pruned meanwhile looked missing.
            if verdicts.ok or _first_segment(later.head, self._keys()) == _first_segment(state.head, self._keys()):
                return verdicts
            state = later

    async def _verify(self, state: AuditState, witnesses: Iterable[Witness]) -> AuditVerdicts:
        verification = AuditVerification(self._keys(), state.now_ms, witnesses)
        origin = ChainHead.claimed_origin(state.head) if state.head is not None else ""
        verification.begin(state.head, await self._log.manifests(origin) if origin else {})
        for segment in verification.segments:
            after = 0
            beyond: Sequence[NumberedRow] = ()
            while not beyond and (rows := await self._log.rows(origin, segment, after, ROWS_AT_ONCE)):
                after = rows[-1].number
                beyond = [one for one in rows if one.number > verification.last_seq]
                await asyncio.to_thread(verification.add, segment, rows[: len(rows) - len(beyond)])
            if beyond and not await self._appended_meanwhile(beyond[-1].number):
                verification.add(segment, beyond)
            verification.end_segment(segment)
        return verification.verdicts()

    async def _appended_meanwhile(self, number: int) -> bool:
        """Whether the head has grown to include a row that was read after it."""
        head = await self._head()
        return head is not None and head.seq >= number

    async def _head(self) -> ChainHead | None:
        state = await self._log.state()
        return ChainHead.read(state.head, self._keys()) if state.head is not None else None

    async def _segments(self, head: ChainHead) -> list[_Segment]:
        keys, stored = self._keys(), await self._log.manifests(head.origin)
        found = [_closed(number, stored, keys) for number in range(head.first_segment, head.segment.number)]
        open_segment = _Segment(head.segment.number, head.segment.first_seq, head.seq)
        return [*(one for one in found if one is not None), open_segment]

    def _read(self, numbered: NumberedRow, segment: int) -> ReadEntry:
        try:
            row = read(numbered.row.data, segment).row
        except BadRow:
            return ReadEntry(numbered.number, None, authentic=False)
        key = self._keys().get(row.key_id)
        authentic = key is not None and is_authentic(numbered.row, key) and row.seq == numbered.number
        return ReadEntry(numbered.number, row, authentic)


def _permits(wanted: AuditFilter, found: ReadEntry) -> bool:
    """Rows that cannot be decoded are always shown."""
    return found.row is None or wanted.permits(found.row)


def _closed(number: int, stored: Mapping[int, Authenticated], keys: AuditKeyRing) -> _Segment | None:
    if number not in stored:
        return None
    manifest = Manifest.read(stored[number], keys)
    return _Segment(number, manifest.first_seq, manifest.last_seq, manifest.last_at_ms)


def _first_segment(head: Authenticated | None, keys: AuditKeyRing) -> int:
    try:
        return ChainHead.read(head, keys).first_segment if head is not None else 0
    except DistributorError:
        # Reported by the verification.
        return 0


def _given(checkpoints: Sequence[str]) -> list[Witness]:
    if len(checkpoints) > MAX_CHECKPOINTS:
        raise InvalidArgument(
            f"checkpoints must be at most {MAX_CHECKPOINTS}", field="checkpoints", reason="TOO_MANY_CHECKPOINTS"
        )
    given: list[Witness] = []
    for number, text in enumerate(checkpoints):
        checkpoint = parsed(text)
        if checkpoint is None:
            raise InvalidArgument(
                "must be a signed checkpoint of an audit trail, with all its lines",
                field=f"checkpoints[{number}]",
                reason="INVALID_CHECKPOINT",
            )
        given.append(Witness("the given checkpoint", checkpoint))
    return given
