"""What a bridge measures. docs/operations.md lists the metrics for operators."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Info, ProcessCollector

import distributor
from distributor.observability.histogram import Histogram

_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class BridgeMetrics:
    """The metrics of one bridge, in a registry of their own. Used from the thread of the event loop only."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._dashboards = self._gauge("dashboards", "Dashboards connected.")
        self._events_lag = self._gauge("events_lag_seconds", "Age of the latest event when this bridge read it.")
        self._sent = self._counter("messages_sent", "Messages sent to dashboards.")
        self._cut = self._counter("output_cut_bytes", "Bytes of output cut because a dashboard was slow.")
        self._resyncs = self._counter(
            "resyncs", "Snapshots sent because a dashboard may have missed changes.", "reason"
        )
        self._closes = self._counter("closes", "Connections that the bridge closed, by WebSocket code.", "code")
        self._broadcast = Histogram(
            self.registry,
            "distributor_bridge_broadcast_seconds",
            "Time a message waited in the queue of a dashboard, until it was handed to its connection.",
            _SECONDS,
        ).child()
        ProcessCollector(registry=self.registry)
        Info("distributor_build", "What runs here.", registry=self.registry).info({"version": distributor.__version__})

    def dashboards(self, count: int) -> None:
        """How many dashboards are connected."""
        self._dashboards.set(count)

    def events_lag(self, seconds: float) -> None:
        """How old the event is that was read last, when it was read."""
        self._events_lag.set(seconds)

    def sent(self, waited_seconds: float) -> None:
        """A message was handed to its connection."""
        self._sent.inc()
        self._broadcast.observe(waited_seconds)

    def output_cut(self, count: int) -> None:
        """So many bytes of output were cut."""
        self._cut.inc(count)

    def resync(self, reason: str) -> None:
        """A dashboard was sent a snapshot because it may have missed changes."""
        self._resyncs.labels(reason).inc()

    def closed(self, code: int) -> None:
        """The bridge closed a connection."""
        self._closes.labels(str(code)).inc()

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(f"distributor_bridge_{name}", documentation, registry=self.registry)

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(f"distributor_bridge_{name}", documentation, labels, registry=self.registry)
