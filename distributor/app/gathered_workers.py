"""What a supervisor answers over HTTP: the metrics and the readiness of all workers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from prometheus_client.registry import Collector

from distributor.app.worker_process import WorkerAway
from distributor.app.worker_restarts import WorkerRestarts
from distributor.errors import DistributorError, Unavailable
from distributor.observability.families import MergedFamilies, family_documents
from distributor.observability.worker_metrics import WorkerMetrics
from distributor.wire.http_credentials import HttpCredentials

LABEL: Final = "worker"
SUPERVISOR: Final = "supervisor"
"""In place of the number of a worker."""


class GatheredWorkers:
    """Asks the workers with each request; one that does not answer in time is left out."""

    def __init__(self, workers: Sequence[WorkerRestarts], metrics: WorkerMetrics) -> None:
        self._workers = workers
        self._metrics = metrics
        self.draining = False

    async def collect(self) -> Collector:
        """Return the metrics of all workers that answer, and of this process."""
        answers = await asyncio.gather(*[self._families(slot) for slot in self._workers])
        self._metrics.serving(sum(slot.worker.serving for slot in self._workers))
        families: dict[str, Any] = {
            str(slot.worker.number): answer
            for slot, answer in zip(self._workers, answers, strict=True)
            if answer is not None
        }
        families[SUPERVISOR] = family_documents(self._metrics.process)
        return MergedFamilies(LABEL, self._metrics.registry, families)

    async def faults(self) -> Mapping[str, str | None]:
        """Return what keeps each worker from serving, by its name."""
        answers = await asyncio.gather(*map(self._fault, self._workers))
        named = {f"worker {slot.worker.number}": answer for slot, answer in zip(self._workers, answers, strict=True)}
        return {**named, "draining": "the server is stopping" if self.draining else None}

    def is_ready(self, faults: Mapping[str, str | None]) -> bool:
        """Return whether at least one worker serves, and the server is not stopping."""
        return faults["draining"] is None and any(
            fault is None for name, fault in faults.items() if name.startswith("worker ")
        )

    async def admit(self, request: HttpCredentials) -> None:
        """Let a worker check the credentials. Raises its refusal, and Unavailable if none of them answers."""
        certificate = request.certificate.decode() if request.certificate is not None else None
        for slot in self._workers:
            try:
                await slot.worker.ask(
                    "admit",
                    authorization=request.authorization,
                    certificate=certificate,
                    address=request.address,
                )
            except WorkerAway:
                continue
            return
        raise Unavailable("no worker answers")

    async def _families(self, slot: WorkerRestarts) -> Any:
        try:
            return await slot.worker.ask("metrics")
        except DistributorError:
            self._metrics.missed()
            return None

    async def _fault(self, slot: WorkerRestarts) -> str | None:
        try:
            faults: dict[str, str | None] = await slot.worker.ask("faults")
        except DistributorError as error:
            return error.message
        return "; ".join(f"{name}: {fault}" for name, fault in faults.items() if fault) or None
