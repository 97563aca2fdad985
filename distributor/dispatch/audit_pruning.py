"""Prunes segments of the audit trail that are past their retention."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from distributor.dispatch.audit_recorder import AuditRecorder
from distributor.dispatch.ports import AuditLog
from distributor.errors import DistributorError
from distributor.identity.audit_head import Manifest
from distributor.identity.audit_keys import AuditKeyRing
from distributor.identity.audit_retention import AuditRetention, due, fullness
from distributor.observability.outage import Outage

INTERVAL_SECONDS: Final = 60.0


class AuditPruning:
    """One loop per replica. If several prune the same segments, the later ones find nothing to do."""

    def __init__(
        self, log: AuditLog, recorder: AuditRecorder, keys: Callable[[], AuditKeyRing], retention: AuditRetention
    ) -> None:
        self._log = log
        self._recorder = recorder
        self._keys = keys
        self._retention = retention
        self._outage = Outage("prune the audit trail")

    async def run(self) -> None:
        """Prune until cancelled."""
        while True:
            try:
                await self.run_once()
                self._outage.recovered()
            except DistributorError as error:
                self._outage.failed(error)
            await asyncio.sleep(INTERVAL_SECONDS)

    async def run_once(self) -> None:
        """Have the recorder prune what is due. Raises the errors of the AuditLog, and those of reading manifests."""
        head, now_ms = await self._recorder.head()
        if head is None:
            return
        if head.first_segment == head.segment.number:
            self._recorder.filled(fullness(head, {}, self._retention))
            return
        keys, stored = self._keys(), await self._log.manifests(head.origin)
        kept = range(head.first_segment, head.segment.number)
        manifests = {number: Manifest.read(stored[number], keys) for number in kept if number in stored}
        self._recorder.filled(fullness(head, manifests, self._retention))
        prune = due(head, manifests, now_ms, self._retention)
        if prune is not None:
            self._recorder.prune(prune)
