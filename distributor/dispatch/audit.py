"""Checks the stored commands and indexes against each other, and reports what had to be repaired."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final, Protocol

from distributor.dispatch.ports import Auditor
from distributor.errors import DistributorError
from distributor.model.repair import Repair, RepairKind
from distributor.observability.logging import get_logger
from distributor.observability.outage import Outage

logger = get_logger()

EXAMPLES: Final = 5
"""Ids named in the log line of a kind."""


class RepairCounter(Protocol):
    """Counts repairs."""

    def store_repaired(self, kind: RepairKind, count: int) -> None:
        """Count repairs of one kind."""


class Audit:
    """One loop per replica; replicas take turns, so that everything is swept once each `cleanup_interval` seconds."""

    def __init__(self, auditor: Auditor, metrics: RepairCounter, cleanup_interval: float = 3_600.0) -> None:
        self._auditor = auditor
        self._metrics = metrics
        self._cleanup_interval = cleanup_interval
        self._outage = Outage("audit")

    async def run(self) -> None:
        """Sweep until cancelled, first at once."""
        rest_ms = 0
        while True:
            try:
                await self.run_once(rest_ms)
                self._outage.recovered()
            except DistributorError as error:
                self._outage.failed(error)
            rest_ms = round(self._cleanup_interval * 500)
            await asyncio.sleep(self._cleanup_interval)

    async def run_once(self, rest_ms: int = 0) -> Counter[RepairKind] | None:
        """Sweep everything once and return the repairs by kind.

        Return None if another replica sweeps, or has ended a sweep within the last `rest_ms`.
        """
        if not await self._auditor.take_turn(rest_ms):
            return None
        counts: Counter[RepairKind] = Counter()
        examples: dict[RepairKind, list[str]] = {}
        try:
            async for repairs in self._auditor.sweep():
                for repair in repairs:
                    self._note(repair, counts, examples)
        finally:
            for kind, count in counts.items():
                logger.error("repaired the store", kind=kind.value, repairs=count, examples=examples[kind])
        return counts

    def _note(self, repair: Repair, counts: Counter[RepairKind], examples: dict[RepairKind, list[str]]) -> None:
        self._metrics.store_repaired(repair.kind, 1)
        counts[repair.kind] += 1
        known = examples.setdefault(repair.kind, [])
        if len(known) < EXAMPLES:
            known.append(repair.subject)
