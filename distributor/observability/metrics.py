"""Prometheus metrics of a server, one method per measurement. docs/operations.md documents them for operators."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Info, ProcessCollector

import distributor
from distributor.model.command import Receipts
from distributor.model.lifecycle import TERMINAL, CommandStatus
from distributor.model.repair import RepairKind
from distributor.observability.embedded_valkey_metrics import EmbeddedValkeyMetrics
from distributor.observability.histogram import Histogram

_LATENCY_BOUNDS: Final = (
    *(0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
_BATCH_BOUNDS: Final = (0.0, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0)


class Stage(StrEnum):
    """Stages of a command whose durations are measured."""

    QUEUED_TO_ASSIGNED = "queued_to_assigned"
    ASSIGNED_TO_ACKNOWLEDGED = "assigned_to_acknowledged"
    ACKNOWLEDGED_TO_STARTED = "acknowledged_to_started"
    STARTED_TO_FINISHED = "started_to_finished"


class Compressed(StrEnum):
    """What is compressed, with its direction."""

    SENT_TO_AGENTS = "sent_to_agents"
    RECEIVED_FROM_AGENTS = "received_from_agents"
    SENT_TO_CALLERS = "sent_to_callers"
    RECEIVED_FROM_CALLERS = "received_from_callers"
    STORED_COMMANDS = "stored_commands"
    STORED_RESULTS = "stored_results"
    STORED_OUTPUT = "stored_output"


class Metrics:
    """The metrics of one process, in their own registry. Use only on the event loop's thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self.embedded_valkey = EmbeddedValkeyMetrics(self.registry)
        self._create_gauges()
        self._create_command_metrics()
        self._create_call_metrics()
        self._create_compression_metrics()
        self._create_audit_metrics()
        ProcessCollector(registry=self.registry)
        Info("distributor_build", "Version of this process.", registry=self.registry).info(
            {"version": distributor.__version__}
        )

    # Gauges, set periodically.

    def agents_connected(self, count: int) -> None:
        """Set the number of agents attached to this process."""
        self._agents_connected.set(count)

    def queue(self, depth: int, oldest_seconds: float) -> None:
        """Set the number of queued commands and the age of the oldest in seconds, 0 if none is queued."""
        self._queue_depth.set(depth)
        self._queue_oldest.set(oldest_seconds)

    def commands(self, status: CommandStatus, count: int) -> None:
        """Set the number of stored commands with a status."""
        self._commands[status].set(count)

    def watchers(self, count: int) -> None:
        """Set the number of open watch calls."""
        self._watchers.set(count)

    def events_lag(self, seconds: float) -> None:
        """Set the age in seconds of the latest event at the time it was read."""
        self._events_lag.set(seconds)

    def events_behind(self, entries: int) -> None:
        """Set the number of entries in the event stream that this process has yet to read."""
        self._events_behind.set(entries)

    # Counters and histograms, on hot paths.

    def command_finished(self, status: CommandStatus, receipts: Receipts) -> None:
        """Count a command that reached a terminal status, and observe each stage that it passed."""
        self._finished[status].inc()
        previous_ms = receipts.queued_ms
        ends = (receipts.assigned_ms, receipts.acknowledged_ms, receipts.started_ms, receipts.finished_ms)
        for buckets, passed_ms in zip(self._stage_seconds, ends, strict=True):
            if not passed_ms or not previous_ms:
                return
            buckets.observe((passed_ms - previous_ms) / 1_000 if passed_ms > previous_ms else 0.0)
            previous_ms = passed_ms

    def poll_batch(self, size: int) -> None:
        """Observe the number of queued commands found for one agent by one claim."""
        self._poll_batch.observe(size)

    def valkey_round_trip(self, function: str, items: int, seconds: float) -> None:
        """Observe one answered request to Valkey, shared by `items` callers."""
        self._valkey_seconds.child(function).observe(seconds)
        counter = self._valkey_items_of.get(function)
        if counter is None:
            counter = self._valkey_items_of[function] = self._valkey_items.labels(function)
        counter.inc(items)

    def valkey_failed(self, function: str) -> None:
        """Count one failed request to Valkey."""
        self._valkey_failures.labels(function).inc()

    def store_repaired(self, kind: RepairKind, count: int) -> None:
        """Count repairs of what is stored."""
        self._store_repairs[kind].inc(count)

    def audit_rows_written(self, rows: int) -> None:
        """Count rows appended to the audit trail."""
        self._audit_rows.inc(rows)

    def audit_entries_dropped(self, entries: int) -> None:
        """Count events that are not in the audit trail because it could not be written for too long."""
        self._audit_dropped.inc(entries)

    def audit_alarm(self) -> None:
        """Count a sign that the audit trail was tampered with."""
        self._audit_alarms.inc()

    def loop_lag(self, seconds: float) -> None:
        """Observe by how many seconds the event loop was late."""
        self._loop_lag.observe(seconds)

    def rpc_finished(self, method: str, code: str, seconds: float) -> None:
        """Observe a finished call. `method` is its short name, such as QueueCommand; `code` a canonical code name."""
        self._rpc_seconds.child(method, code).observe(seconds)

    def compressed(self, what: Compressed, plain_bytes: int, compressed_bytes: int) -> None:
        """Count the bytes of one compressed item, before and after. Equal sizes: compression saved too little.

        May be called from any thread.
        """
        plain, packed = self._compressed[what]
        plain.inc(plain_bytes)
        packed.inc(compressed_bytes)

    def _create_gauges(self) -> None:
        def gauge(name: str, documentation: str) -> Gauge:
            return Gauge(f"distributor_{name}", documentation, registry=self.registry)

        self._agents_connected = gauge("agents_connected", "Agents attached to this process.")
        self._queue_depth = gauge("queue_depth", "Queued commands.")
        self._queue_oldest = gauge("queue_oldest_age_seconds", "Age of the oldest queued command.")
        self._watchers = gauge("watchers", "Open watch calls.")
        self._events_lag = gauge("events_lag_seconds", "Age of the latest event when this process read it.")
        self._events_behind = gauge("events_lag_entries", "Entries of the event stream that are not read yet.")

    def _create_command_metrics(self) -> None:
        commands = Gauge("distributor_commands", "Stored commands by status.", ["status"], registry=self.registry)
        self._commands = {status: commands.labels(status.value) for status in CommandStatus}
        finished = Counter(
            "distributor_commands_finished", "Finished commands by status.", ["status"], registry=self.registry
        )
        self._finished = {status: finished.labels(status.value) for status in CommandStatus if status in TERMINAL}
        stages = Histogram(
            self.registry, "distributor_stage_seconds", "Time commands spent in a stage.", _LATENCY_BOUNDS, ["stage"]
        )
        self._stage_seconds = [stages.child(stage.value) for stage in Stage]
        self._poll_batch = Histogram(
            self.registry, "distributor_poll_batch_size", "Commands claimed for one agent at once.", _BATCH_BOUNDS
        ).child()

    def _create_call_metrics(self) -> None:
        self._valkey_seconds = Histogram(
            self.registry,
            "distributor_valkey_round_trip_seconds",
            "Duration of requests to Valkey; the count is the number of round trips.",
            _LATENCY_BOUNDS,
            ["function"],
        )
        self._valkey_items = Counter(
            "distributor_valkey_items", "Calls that shared round trips.", ["function"], registry=self.registry
        )
        self._valkey_items_of: dict[str, Counter] = {}
        self._valkey_failures = Counter(
            "distributor_valkey_failures", "Requests to Valkey that failed.", ["function"], registry=self.registry
        )
        repairs = Counter(
            "distributor_store_repairs",
            "Inconsistencies found in Valkey and repaired: 0 unless other programs wrote there or Valkey lost data.",
            ["kind"],
            registry=self.registry,
        )
        self._store_repairs = {kind: repairs.labels(kind.value) for kind in RepairKind}
        self._rpc_seconds = Histogram(
            self.registry,
            "distributor_rpc_seconds",
            "Duration of calls by method and code; the count is the number of calls.",
            _LATENCY_BOUNDS,
            ["method", "code"],
        )
        self._loop_lag = Histogram(
            self.registry, "distributor_event_loop_lag_seconds", "Lateness of the event loop.", _LATENCY_BOUNDS
        ).child()

    def _create_audit_metrics(self) -> None:
        self._audit_rows = Counter(
            "distributor_audit_rows", "Rows appended to the audit trail.", registry=self.registry
        )
        self._audit_dropped = Counter(
            "distributor_audit_dropped", "Events missing in the audit trail.", registry=self.registry
        )
        self._audit_alarms = Counter(
            "distributor_audit_alarms", "Signs that the audit trail was tampered with.", registry=self.registry
        )

    def _create_compression_metrics(self) -> None:
        plain = Counter(
            "distributor_compression_plain_bytes",
            "Bytes before compression.",
            ["what"],
            registry=self.registry,
        )
        packed = Counter(
            "distributor_compression_compressed_bytes",
            "Bytes after compression; what compression did not make smaller counts as it was.",
            ["what"],
            registry=self.registry,
        )
        self._compressed = {what: (plain.labels(what.value), packed.labels(what.value)) for what in Compressed}
