"""Prometheus metrics of an embedded Valkey, for the process that owns it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Info


class EmbeddedValkeyMetrics:
    """Registers each metric with its first value: without an embedded Valkey there is none."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._info: Info | None = None
        self._fsync_seconds: Gauge | None = None
        self._fsync_failures: Counter | None = None

    def started(self, version: str, allocator: str) -> None:
        """Set what the embedded Valkey is."""
        if self._info is None:
            self._info = Info("distributor_embedded_valkey", "The embedded Valkey.", registry=self._registry)
        self._info.info({"version": version, "allocator": allocator})

    def synced(self, seconds: float, error: OSError | None) -> None:
        """Count an fsync of its data."""
        if self._fsync_seconds is None or self._fsync_failures is None:
            name = "distributor_embedded_valkey_fsync"
            self._fsync_seconds = Gauge(
                f"{name}_seconds", "Duration of the latest fsync of the embedded Valkey.", registry=self._registry
            )
            self._fsync_failures = Counter(
                f"{name}_failures", "Failed fsyncs of the embedded Valkey.", registry=self._registry
            )
        self._fsync_seconds.set(seconds)
        if error is not None:
            self._fsync_failures.inc()
