"""Prometheus metrics of a supervisor of workers."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

from distributor.observability.embedded_valkey_metrics import EmbeddedValkeyMetrics


class WorkerMetrics:
    """Two registries: `process` has what each worker has as well, `registry` the rest."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self.process = CollectorRegistry(auto_describe=True)
        self.embedded_valkey = EmbeddedValkeyMetrics(self.registry)
        ProcessCollector(registry=self.process)
        self._serving = Gauge("distributor_workers", "Workers that serve.", registry=self.registry)
        self._restarts = Counter("distributor_worker_restarts", "Workers started again.", registry=self.registry)
        self._missed = Counter(
            "distributor_worker_metrics_missed", "Workers that did not answer in time.", registry=self.registry
        )

    def serving(self, count: int) -> None:
        """Set the number of workers that serve."""
        self._serving.set(count)

    def restarted(self) -> None:
        """Count the start of a worker that had ended."""
        self._restarts.inc()

    def missed(self) -> None:
        """Count a worker whose metrics were not there in time."""
        self._missed.inc()
