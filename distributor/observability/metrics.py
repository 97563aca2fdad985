"""What is measured, as one object with a method for each fact. docs/operations.md lists the metrics for operators."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Info, ProcessCollector

import distributor
from distributor.model.command import Receipts
from distributor.model.lifecycle import TERMINAL, CommandStatus
from distributor.observability.histogram import Histogram

_LATENCY_BOUNDS: Final = (
    *(0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
_BATCH_BOUNDS: Final = (0.0, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0)


class Stage(StrEnum):
    """The parts into which the time of a command falls."""

    QUEUED_TO_ASSIGNED = "queued_to_assigned"
    ASSIGNED_TO_ACKNOWLEDGED = "assigned_to_acknowledged"
    ACKNOWLEDGED_TO_STARTED = "acknowledged_to_started"
    STARTED_TO_FINISHED = "started_to_finished"


class Metrics:
    """The metrics of one process, in a registry of their own. Used from the thread of the event loop only."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._create_gauges()
        self._create_command_metrics()
        self._create_call_metrics()
        ProcessCollector(registry=self.registry)
        Info("distributor_build", "What runs here.", registry=self.registry).info({"version": distributor.__version__})

    # State, set now and then.

    def agents_connected(self, count: int) -> None:
        """How many agents are attached to this process."""
        self._agents_connected.set(count)

    def queue(self, depth: int, oldest_seconds: float) -> None:
        """How many commands wait, and for how long the oldest of them has (0 where none waits)."""
        self._queue_depth.set(depth)
        self._queue_oldest.set(oldest_seconds)

    def commands(self, status: CommandStatus, count: int) -> None:
        """How many commands the store keeps in a state."""
        self._commands[status].set(count)

    def watchers(self, count: int) -> None:
        """How many watch calls are open."""
        self._watchers.set(count)

    def events_lag(self, seconds: float) -> None:
        """How old the event is that was read last from the event stream, when it was read."""
        self._events_lag.set(seconds)

    # Events, on hot paths.

    def command_finished(self, status: CommandStatus, receipts: Receipts) -> None:
        """A command reached a terminal status; each stage that it passed is observed."""
        self._finished[status].inc()
        previous_ms = receipts.queued_ms
        for buckets, passed_ms in zip(self._lifespan.values(), _ends_of_stages(receipts), strict=True):
            if not passed_ms or not previous_ms:
                return
            buckets.observe(max(0, passed_ms - previous_ms) / 1_000)
            previous_ms = passed_ms

    def poll_batch(self, size: int) -> None:
        """A look for queued commands found this many for one agent."""
        self._poll_batch.observe(size)

    def valkey_round_trip(self, function: str, items: int, seconds: float) -> None:
        """One request to Valkey was answered; `items` callers shared it."""
        self._valkey_seconds.child(function).observe(seconds)
        counter = self._valkey_items_of.get(function)
        if counter is None:
            counter = self._valkey_items_of[function] = self._valkey_items.labels(function)
        counter.inc(items)

    def valkey_failed(self, function: str) -> None:
        """One request to Valkey failed."""
        self._valkey_failures.labels(function).inc()

    def loop_lag(self, seconds: float) -> None:
        """The event loop ran something this much later than it should have."""
        self._loop_lag.observe(seconds)

    def rpc_finished(self, method: str, code: str, seconds: float) -> None:
        """A call ended with a canonical code by name. `method` is its short name, such as QueueCommand."""
        self._rpc_seconds.child(method, code).observe(seconds)

    def _create_gauges(self) -> None:
        def gauge(name: str, documentation: str) -> Gauge:
            return Gauge(f"distributor_{name}", documentation, registry=self.registry)

        self._agents_connected = gauge("agents_connected", "Agents attached to this process.")
        self._queue_depth = gauge("queue_depth", "Commands that wait for their agent.")
        self._queue_oldest = gauge("queue_oldest_age_seconds", "How long the oldest queued command has waited.")
        self._watchers = gauge("watchers", "Open watch calls.")
        self._events_lag = gauge("events_lag_seconds", "Age of the latest event when this process read it.")

    def _create_command_metrics(self) -> None:
        commands = Gauge(
            "distributor_commands", "Commands that the store keeps, by status.", ["status"], registry=self.registry
        )
        self._commands = {status: commands.labels(status.value) for status in CommandStatus}
        finished = Counter(
            "distributor_commands_finished", "Commands that ended, by status.", ["status"], registry=self.registry
        )
        self._finished = {status: finished.labels(status.value) for status in CommandStatus if status in TERMINAL}
        stages = Histogram(
            self.registry, "distributor_stage_seconds", "Time commands spent in a stage.", _LATENCY_BOUNDS, ["stage"]
        )
        self._lifespan = {stage: stages.child(stage.value) for stage in Stage}
        self._poll_batch = Histogram(
            self.registry, "distributor_poll_batch_size", "Commands found for one agent by one look.", _BATCH_BOUNDS
        ).child()

    def _create_call_metrics(self) -> None:
        self._valkey_seconds = Histogram(
            self.registry,
            "distributor_valkey_round_trip_seconds",
            "Time of requests to Valkey; the count is the number of round trips.",
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
        self._rpc_seconds = Histogram(
            self.registry,
            "distributor_rpc_seconds",
            "Time of calls, by method and code; the count is the number of calls.",
            _LATENCY_BOUNDS,
            ["method", "code"],
        )
        self._loop_lag = Histogram(
            self.registry, "distributor_event_loop_lag_seconds", "How late the event loop is.", _LATENCY_BOUNDS
        ).child()


def _ends_of_stages(receipts: Receipts) -> tuple[int, int, int, int]:
    return receipts.assigned_ms, receipts.acknowledged_ms, receipts.started_ms, receipts.finished_ms
