"""The metrics of a bridge. docs/operations.md lists them for operators."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Info, ProcessCollector

import distributor
from distributor.observability.histogram import Histogram

_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class BridgeMetrics:
    """The metrics of one bridge, in their own registry. Call from the event loop's thread only."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._dashboards = self._gauge("dashboards", "Dashboards connected.")
        self._events_lag = self._gauge("events_lag_seconds", "Age of the latest event when this bridge read it.")
        self._events_behind = self._gauge("events_lag_entries", "Entries of the event stream that are not read yet.")
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
        """Set the number of connected dashboards."""
        self._dashboards.set(count)

    def events_lag(self, seconds: float) -> None:
        """Set the age of the latest event when it was read."""
        self._events_lag.set(seconds)

    def events_behind(self, entries: int) -> None:
        """Set the number of entries in the event stream that the bridge has yet to read."""
        self._events_behind.set(entries)

    def sent(self, waited_seconds: float) -> None:
        """Count a message handed to its connection, and its time in the queue."""
        self._sent.inc()
        self._broadcast.observe(waited_seconds)

    def output_cut(self, count: int) -> None:
        """Count bytes of output cut."""
        self._cut.inc(count)

    def resync(self, reason: str) -> None:
        """Count a snapshot sent because changes may have been missed."""
        self._resyncs.labels(reason).inc()

    def closed(self, code: int) -> None:
        """Count a connection closed by the bridge."""
        self._closes.labels(str(code)).inc()

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(f"distributor_bridge_{name}", documentation, registry=self.registry)

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(f"distributor_bridge_{name}", documentation, labels, registry=self.registry)
