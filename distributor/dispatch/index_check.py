"""Checks the stored commands and indexes against each other, and reports what had to be repaired."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final, Protocol

from distributor.dispatch.ports import IndexChecker
from distributor.errors import DistributorError
from distributor.model.repair import Repair, RepairKind
from distributor.observability.logging import get_logger
from distributor.observability.outage import Outage

logger = get_logger()

LOOK_SECONDS: Final = 65.0
"""When to look again after a sweep that failed, or was another's: a failed one keeps its turn for a minute."""
START_REST_SECONDS: Final = 60.0
"""Of servers that start together, one sweeps."""
REST: Final = 0.9
"""How much of the interval must have passed since any replica's sweep."""
EXAMPLES: Final = 5
"""Ids named in the log line of a kind."""


class RepairCounter(Protocol):
    """Counts repairs."""

    def store_repaired(self, kind: RepairKind, count: int) -> None:
        """Count repairs of one kind."""


class IndexCheck:
    """One loop per replica; replicas take turns, so that everything is swept once each `cleanup_interval` seconds."""

    def __init__(self, checker: IndexChecker, metrics: RepairCounter, cleanup_interval: float = 3_600.0) -> None:
        self._checker = checker
        self._metrics = metrics
        self._cleanup_interval = cleanup_interval
        self._outage = Outage("check the indexes")

    async def run(self) -> None:
        """Sweep until cancelled, first at once unless another replica did within the last minute."""
        rest_seconds = START_REST_SECONDS
        while True:
            pause_seconds = min(LOOK_SECONDS, self._cleanup_interval)
            try:
                if await self.run_once(round(rest_seconds * 1000)) is not None:
                    pause_seconds = self._cleanup_interval
                self._outage.recovered()
                rest_seconds = REST * self._cleanup_interval
            except DistributorError as error:
                self._outage.failed(error)
            await asyncio.sleep(pause_seconds)

    async def run_once(self, rest_ms: int = 0) -> Counter[RepairKind] | None:
        """Sweep everything once and return the repairs by kind.

        Return None if another replica sweeps, or has ended a sweep within the last `rest_ms`.
        """
        if not await self._checker.take_turn(rest_ms):
            return None
        counts: Counter[RepairKind] = Counter()
        examples: dict[RepairKind, list[str]] = {}
        try:
            async for repairs in self._checker.sweep():
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
