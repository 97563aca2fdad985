"""Compares the checkpoints that agents remember with the audit trail: agents are witnesses outside of Valkey."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from distributor.dispatch.audit_recorder import AuditRecorder
from distributor.dispatch.ports import AuditLog
from distributor.errors import DistributorError
from distributor.identity.audit_checkpoint import AuditCheckpoint, is_ours, parsed
from distributor.identity.audit_head import ChainHead, Manifest
from distributor.identity.audit_keys import AuditKeyRing
from distributor.identity.audit_verification import NumberedRow, Witness
from distributor.identity.merkle_tree import MerkleTree
from distributor.observability.outage import WAIT_AFTER_FAILURE_SECONDS, Outage

MAX_REMEMBERED: Final = 1_000
"""Distinct checkpoints kept for verifying, the latest said."""
MAX_WAITING: Final = 1_000
MAX_ALARMS: Final = 100
"""Distinct checkpoints about which an alarm is given, so that the same is not given again and again."""


ROWS_AT_ONCE: Final = 1_000


class AuditWitnesses:
    """Takes the checkpoints that agents report on attaching. One loop per replica compares them; `said` never blocks.

    A checkpoint that the audit keys have not signed is ignored: it proves nothing.
    """

    def __init__(self, log: AuditLog, recorder: AuditRecorder, keys: Callable[[], AuditKeyRing]) -> None:
        self._log = log
        self._recorder = recorder
        self._keys = keys
        self._remembered: OrderedDict[str, Witness] = OrderedDict()
        self._waiting: OrderedDict[str, str] = OrderedDict()
        """The agents by what they have said."""
        self._alarmed: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._outage = Outage("compare the audit trail with what agents remember")

    def said(self, agent_id: str, checkpoint: str) -> None:
        """Note what an agent remembers, to compare it soon."""
        if checkpoint and checkpoint not in self._remembered and len(self._waiting) < MAX_WAITING:
            self._waiting[checkpoint] = agent_id
            self._wake.set()

    def remembered(self) -> Sequence[Witness]:
        """The checkpoints that agents have said to remember, and that we have signed."""
        return [*self._remembered.values()]

    async def run(self) -> None:
        """Compare until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self.run_once()
                self._outage.recovered()
            except DistributorError as error:
                self._outage.failed(error)
                self._wake.set()
                await asyncio.sleep(WAIT_AFTER_FAILURE_SECONDS)

    async def run_once(self) -> None:
        """Compare reported checkpoints. Raises the errors of the AuditLog, and those of reading the head."""
        if not self._waiting:
            return
        # Read after the reports: the trail is at least as long as any checkpoint made before.
        head, _ = await self._recorder.head()
        while self._waiting:
            text, agent_id = next(iter(self._waiting.items()))
            checkpoint = parsed(text)
            if checkpoint is not None and is_ours(checkpoint, self._keys()):
                await self._compare(checkpoint, head, agent_id)
                self._remembered[text] = Witness(f"agent {agent_id}", checkpoint)
                while len(self._remembered) > MAX_REMEMBERED:
                    self._remembered.popitem(last=False)
            del self._waiting[text]

    async def _compare(self, checkpoint: AuditCheckpoint, head: ChainHead | None, agent_id: str) -> None:
        size = head.seq if head is not None else 0
        if head is None or checkpoint.origin != head.origin:
            self._alarm("an agent remembers another audit trail", checkpoint, size, agent_id)
        elif checkpoint.size > size:
            self._alarm("an agent remembers more of the audit trail than there is", checkpoint, size, agent_id)
        else:
            root = self._recorder.root_at(checkpoint) or await self._computed_root(head, checkpoint.size)
            if root not in (None, checkpoint.root):
                self._alarm("an agent remembers other rows of the audit trail", checkpoint, size, agent_id)

    async def _computed_root(self, head: ChainHead, size: int) -> bytes | None:
        """The root of the first `size` rows; None if some of them are pruned or missing, which verification reports."""
        keys, stored = self._keys(), await self._log.manifests(head.origin)
        tree, segment = MerkleTree(), head.first_segment
        for number in range(1, head.segment.number):
            manifest = Manifest.read(stored[number], keys) if number in stored else None
            if manifest is not None and manifest.last_seq <= size:
                tree, segment = manifest.tree(), number + 1
        if segment < head.first_segment:
            return None
        while tree.size < size:
            rows = await self._log.rows(head.origin, segment, tree.size, min(ROWS_AT_ONCE, size - tree.size))
            if not rows or rows[0].number != tree.size + 1:
                return None
            await asyncio.to_thread(_grow, tree, rows)
        return tree.root()

    def _alarm(self, what: str, checkpoint: AuditCheckpoint, size: int, agent_id: str) -> None:
        if checkpoint.text not in self._alarmed and len(self._alarmed) < MAX_ALARMS:
            self._alarmed[checkpoint.text] = None
            self._recorder.alarm(what, checkpoint.size, size, f"agent {agent_id}")


def _grow(tree: MerkleTree, rows: Sequence[NumberedRow]) -> None:
    for one in rows:
        tree.append(one.row.data)
