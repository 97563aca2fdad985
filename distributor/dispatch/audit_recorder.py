"""Gathers audit entries and appends them to the trail."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from distributor.dispatch.audit_folding import AuditFolding, Noted
from distributor.dispatch.audit_shares import AuditShares
from distributor.dispatch.ports import AuditAppended, AuditLog
from distributor.errors import DistributorError, Unavailable
from distributor.identity.audit_chain import ChainExtension, ChainPolicy, Happened, Prune, extended
from distributor.identity.audit_checkpoint import AuditCheckpoint, parsed
from distributor.identity.audit_head import AuditTampered, Authenticated, ChainHead
from distributor.identity.audit_keys import AuditKeyRing, MissingAuditKey
from distributor.model.audit_entry import AuditEntry, AuditEvent, AuditOutcome
from distributor.observability.logging import get_logger
from distributor.observability.outage import Outage

logger = get_logger()

GATHER_SECONDS: Final = 0.05
"""How long entries wait for others: the most that a killed server loses."""
SUMMARY_SECONDS: Final = 1.0
"""How long summaries of folded entries gather."""
LOOK_SECONDS: Final = 15.0
"""Time between looks at the trail while there is nothing to write: another replica may have made a checkpoint."""
RETRY_SECONDS: Final = 0.5
MAX_ROWS_AT_ONCE: Final = 200
"""Entries per append: about five milliseconds of this process's time."""
MAX_WAITING: Final = 10_000
"""Entries that wait while Valkey is away. Later ones are dropped and counted."""
MAX_ROOTS: Final = 1_000
MAX_TRIES: Final = 50
"""Tries against other writers; each of theirs that succeeds costs one of ours."""


class AuditMetrics(Protocol):
    """Counts audit entries that were written, lost, or alarms."""

    def audit_rows_written(self, rows: int) -> None:
        """Count rows that were appended."""

    def audit_entries_dropped(self, entries: int) -> None:
        """Count entries that were lost because the trail could not be written for too long."""

    def audit_alarm(self) -> None:
        """Count a sign that the trail was tampered with."""


class Audit(Protocol):
    """Where use cases and doors record what happens."""

    def note(self, entry: AuditEntry) -> None:
        """Record an entry soon, without waiting."""

    async def write(self, entry: AuditEntry) -> None:
        """Record an entry now. Raises Unavailable if the trail cannot be written."""


class NoAudit:
    """The Audit port while the audit trail is off."""

    def note(self, entry: AuditEntry) -> None:
        """Record nothing."""

    async def write(self, entry: AuditEntry) -> None:
        """Record nothing."""


NO_AUDIT: Final = NoAudit()


class AuditRecorder:
    """One loop per replica; replicas append to one chain, and the one that loses a race retries on the new head.

    `note` never blocks and never fails. While Valkey is away, up to MAX_WAITING entries wait; a row of its own then
    counts those that were lost.
    """

    def __init__(
        self,
        log: AuditLog,
        keys: Callable[[], AuditKeyRing],
        metrics: AuditMetrics,
        policy: ChainPolicy | None = None,
        shares: AuditShares | None = None,
    ) -> None:
        """`keys` returns the keys as they are now, before each append. It may raise ConfigurationError."""
        self._log = log
        self._keys = keys
        self._metrics = metrics
        self._policy = policy or ChainPolicy()
        self._folding = AuditFolding(shares=shares)
        self._head: Authenticated | None = None
        self._known = False
        """Whether `_head` was read or written by this process."""
        self._taken: list[Noted] = []
        """Entries that an append has taken and not yet stored."""
        self._doubtful: list[ChainExtension] = []
        """Tries to store `_taken` that got no answer: one of them may be stored."""
        self._prune: Prune | None = None
        self._dropped = 0
        self._dropped_since = 0.0
        self._valkey_ahead_ms = 0.0
        """Valkey's clock less ours."""
        self._appending = asyncio.Lock()
        self._wake = asyncio.Event()
        self._outage = Outage("write the audit trail")
        self.checkpoint = ""
        """The last checkpoint of the trail, "" if there is none yet."""
        self._roots: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        """Roots of the checkpoints that this process has seen, by chain and size."""

    def note(self, entry: AuditEntry) -> None:
        """Record an entry soon, without waiting."""
        if len(self._folding) + len(self._taken) >= MAX_WAITING:
            if not self._dropped:
                self._dropped_since = time.time()
            self._dropped += entry.count
            self._metrics.audit_entries_dropped(entry.count)
            return
        self._folding.add(entry, time.monotonic())
        self._wake.set()

    async def write(self, entry: AuditEntry) -> None:
        """Record an entry now. Raises Unavailable if the trail cannot be written."""
        # Cancelling the caller must not leave an append half done.
        await asyncio.shield(asyncio.ensure_future(self._write(entry)))

    async def _write(self, entry: AuditEntry) -> None:
        async with self._appending:
            try:
                await self._append([Noted(entry, time.monotonic())])
            except DistributorError as error:
                raise Unavailable(f"the audit trail cannot be written: {error}", reason="AUDIT_UNAVAILABLE") from error

    async def run(self) -> None:
        """Append noted entries until cancelled."""
        next_summary = next_look = 0.0
        while True:
            timeout = SUMMARY_SECONDS if self._folding.has_summaries or self._taken or self._prune else LOOK_SECONDS
            try:
                async with asyncio.timeout(timeout):
                    await self._wake.wait()
            except TimeoutError:
                pass
            await asyncio.sleep(GATHER_SECONDS)
            self._wake.clear()
            now = time.monotonic()
            summaries = now >= next_summary
            try:
                await self.run_once(summaries=summaries)
                if now >= next_look:
                    next_look = now + LOOK_SECONDS
                    await self.look()
                self._outage.recovered()
            except DistributorError as error:
                self._outage.failed(error)
                await asyncio.sleep(RETRY_SECONDS)
            if summaries:
                next_summary = now + SUMMARY_SECONDS

    async def run_once(self, *, summaries: bool = True) -> None:
        """Append all entries that wait. Raises the errors of the AuditLog, MissingAuditKey and AuditTampered."""
        async with self._appending:
            if summaries:
                self._folding.release(time.monotonic())
            # Entries noted meanwhile gather for the next append.
            left = len(self._folding)
            while self._taken or left > 0 or (summaries and self._folding.has_summaries) or self._prune:
                if not self._taken:
                    most = min(left, MAX_ROWS_AT_ONCE)
                    self._taken = self._folding.take(most=most, summaries=summaries and most == left)
                    left -= most
                    summaries = summaries and left > 0
                await self._append(self._taken)
                self._taken, self._doubtful = [], []

    async def look(self) -> None:
        """Read the head: another replica may have made a checkpoint, or an older state may have been restored."""
        async with self._appending:
            state = await self._log.state()
            self._set_clock(state.now_ms)
            self._compare(state.head)
            self._head, self._known = state.head, True
            self._note_checkpoint(state.checkpoint)
            # A checkpoint may be due although nothing happens any more.
            if state.head is not None:
                await self._append([])

    def filled(self, part: float) -> None:
        """Note how full the trail is, from 0 to 1, which decides whether shares apply."""
        shares = self._folding.shares
        before = shares.scarce
        shares.filled(part)
        if shares.scarce and not before:
            logger.warning(
                "the audit trail fills up: each caller has a share, and what exceeds it is summarised",
                full=round(part, 2),
            )
        elif before and not shares.scarce:
            logger.info("the audit trail has room again: shares no longer apply", full=round(part, 2))

    def prune(self, prune: Prune) -> None:
        """Drop segments with the next append."""
        self._prune = prune
        self._wake.set()

    def root_at(self, checkpoint: AuditCheckpoint) -> bytes | None:
        """The root of the checkpoint of the same chain and size, if this process has seen it."""
        return self._roots.get((checkpoint.origin, checkpoint.size))

    async def head(self) -> tuple[ChainHead | None, int]:
        """The head of the trail and Valkey's time. Raises what `run_once` does."""
        state = await self._log.state()
        return (ChainHead.read(state.head, self._keys()) if state.head is not None else None), state.now_ms

    async def close(self) -> None:
        """Append what waits, once; what cannot be appended is lost."""
        self._folding.release(math.inf)
        try:
            await self.run_once()
        except DistributorError as error:
            lost = len(self._taken) + len(self._folding)
            logger.warning("the last entries of the audit trail are lost", entries=lost, error=str(error))

    async def _append(self, noted: list[Noted]) -> None:
        if not self._known:
            state = await self._log.state()
            self._set_clock(state.now_ms)
            self._head, self._known = state.head, True
            self._note_checkpoint(state.checkpoint)
        if noted is self._taken and await self._was_stored():
            return
        happened = self._happened(noted)
        gap, prune = self._gap(), self._prune
        if noted and gap is not None:
            happened.append(Happened(gap, self._now_ms()))
        for _ in range(MAX_TRIES):
            extension = self._extension(happened, prune)
            if extension is None:
                break
            appended = await self._try(extension, noted)
            if appended.stored:
                self._stored(extension, appended.head)
                break
            self._compare(appended.head)
            self._head = appended.head
            if noted is self._taken and await self._was_stored():
                # It may be without the gap or with it: better to report a gap twice.
                gap = None
                break
        else:
            raise Unavailable("other servers write to the audit trail all the time", reason="AUDIT_UNAVAILABLE")
        self._prune = None if self._prune is prune else self._prune
        if noted and gap is not None:
            self._dropped -= gap.count

    def _extension(self, happened: list[Happened], prune: Prune | None) -> ChainExtension | None:
        try:
            return extended(self._head, happened, self._now_ms(), self._keys(), self._policy, prune)
        except (AuditTampered, MissingAuditKey):
            # It may have been repaired meanwhile.
            self._known = False
            raise

    async def _try(self, extension: ChainExtension, noted: list[Noted]) -> AuditAppended:
        if noted is self._taken:
            # Until there is an answer, also if this is cancelled.
            self._doubtful.append(extension)
        appended = await self._log.append(extension)
        if noted is self._taken:
            self._doubtful.remove(extension)
        self._set_clock(appended.now_ms)
        return appended

    async def _was_stored(self) -> bool:
        """Whether an earlier try, of which no answer came, has stored the same entries."""
        for doubtful in self._doubtful:
            head = doubtful.head
            found = await self._log.rows(head.origin, head.segment.number, head.seq - 1, 1)
            if found and found[0].row == doubtful.rows[-1]:
                self._stored(doubtful, self._head)
                return True
        return False

    def _stored(self, extension: ChainExtension, head: Authenticated | None) -> None:
        self._head = head
        self._metrics.audit_rows_written(len(extension.rows))
        if extension.checkpoint is not None:
            self._note_checkpoint(extension.checkpoint.text)
            logger.info("audit checkpoint", checkpoint=self.checkpoint)

    def _happened(self, noted: list[Noted]) -> list[Happened]:
        ours, now_ms = time.monotonic(), self._now_ms()
        return [Happened(one.entry, round(now_ms - (ours - one.at) * 1_000)) for one in noted]

    def _gap(self) -> AuditEntry | None:
        """The entry that counts those that were dropped."""
        if not self._dropped:
            return None
        details = {"since_ms": round(self._dropped_since * 1_000)}
        return AuditEntry(AuditEvent.GAP, outcome=AuditOutcome.FAILED, count=self._dropped, details=details)

    def _compare(self, found: Authenticated | None) -> None:
        """Compare the head with the one that this process knows: a chain only grows."""
        if self._head is None or found == self._head:
            return
        try:
            keys = self._keys()
            known = ChainHead.read(self._head, keys)
            now = ChainHead.read(found, keys) if found is not None else None
        except DistributorError:
            # The next append says so.
            return
        if now is None or now.origin != known.origin or now.seq < known.seq:
            self.alarm("the audit trail lost rows", known.seq, now.seq if now is not None else 0, "server")

    def alarm(self, what: str, remembered: int, found: int, witness: str) -> None:
        """Report a sign that the trail was tampered with: log, metric and row."""
        logger.error(what, remembered=remembered, found=found, witness=witness)
        self._metrics.audit_alarm()
        details: Mapping[str, str | int] = {"witness": witness, "remembered": remembered, "found": found}
        self.note(AuditEntry(AuditEvent.WITNESS_CONTRADICTED, outcome=AuditOutcome.FAILED, details=details))

    def _note_checkpoint(self, text: str) -> None:
        checkpoint = parsed(text)
        if checkpoint is not None and text != self.checkpoint:
            self.checkpoint = text
            self._roots.setdefault((checkpoint.origin, checkpoint.size), checkpoint.root)
            if len(self._roots) > MAX_ROOTS:
                self._roots.popitem(last=False)

    def _set_clock(self, valkey_ms: int) -> None:
        self._valkey_ahead_ms = valkey_ms - time.monotonic() * 1_000

    def _now_ms(self) -> int:
        return round(time.monotonic() * 1_000 + self._valkey_ahead_ms)
