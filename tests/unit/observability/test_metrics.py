from __future__ import annotations

import pytest
from prometheus_client import generate_latest

import distributor
from distributor.model.command import Receipts
from distributor.model.lifecycle import CommandStatus
from distributor.observability.metrics import Metrics, Stage


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"distributor_{name}", labels)


def test_gauges(metrics: Metrics) -> None:
    metrics.agents_connected(3)
    metrics.queue(7, 1.5)
    metrics.commands(CommandStatus.ASSIGNED, 4)
    metrics.watchers(2)
    metrics.events_lag(0.25)
    metrics.events_behind(6)
    assert sample(metrics, "agents_connected") == 3
    assert sample(metrics, "queue_depth") == 7
    assert sample(metrics, "queue_oldest_age_seconds") == 1.5
    assert sample(metrics, "commands", status="assigned") == 4
    assert sample(metrics, "watchers") == 2
    assert sample(metrics, "events_lag_seconds") == 0.25
    assert sample(metrics, "events_lag_entries") == 6


def test_a_finished_command_is_counted_and_each_stage_observed(metrics: Metrics) -> None:
    metrics.command_finished(CommandStatus.COMPLETED, Receipts(1_000, 1_002, 1_003, 1_005, 1_010, 3_010))
    assert sample(metrics, "commands_finished_total", status="completed") == 1
    sums = [sample(metrics, "stage_seconds_sum", stage=stage.value) for stage in Stage]
    assert sums == pytest.approx([0.002, 0.003, 0.005, 2.0])


@pytest.mark.parametrize(
    ("receipts", "observed"),
    [
        (Receipts(queued_ms=1_000, finished_ms=9_000), [0, 0, 0, 0]),
        (Receipts(queued_ms=1_000, assigned_ms=1_100, finished_ms=9_000), [1, 0, 0, 0]),
        (Receipts(queued_ms=1_000, assigned_ms=900, acknowledged_ms=901), [1, 1, 0, 0]),
    ],
    ids=["never assigned", "never acknowledged", "a clock that went back"],
)
def test_stages_that_a_command_did_not_pass_are_not_observed(
    metrics: Metrics, receipts: Receipts, observed: list[int]
) -> None:
    metrics.command_finished(CommandStatus.TIMEOUT, receipts)
    assert [sample(metrics, "stage_seconds_count", stage=stage.value) for stage in Stage] == observed
    assert all((sample(metrics, "stage_seconds_sum", stage=stage.value) or 0) >= 0 for stage in Stage)


def test_calls(metrics: Metrics) -> None:
    metrics.poll_batch(20)
    metrics.valkey_round_trip("claim", 12, 0.001)
    metrics.valkey_failed("claim")
    metrics.loop_lag(0.02)
    metrics.rpc_finished("QueueCommand", "OK", 0.003)
    assert sample(metrics, "poll_batch_size_bucket", le="20.0") == 1
    assert sample(metrics, "valkey_round_trip_seconds_count", function="claim") == 1
    assert sample(metrics, "valkey_items_total", function="claim") == 12
    assert sample(metrics, "valkey_failures_total", function="claim") == 1
    assert sample(metrics, "event_loop_lag_seconds_sum") == 0.02
    assert sample(metrics, "rpc_seconds_count", method="QueueCommand", code="OK") == 1


def test_two_processes_in_one_do_not_share(metrics: Metrics) -> None:
    other = Metrics()
    other.agents_connected(9)
    assert sample(metrics, "agents_connected") == 0


def test_it_says_what_runs_and_what_it_costs(metrics: Metrics) -> None:
    text = generate_latest(metrics.registry).decode()
    assert f'distributor_build_info{{version="{distributor.__version__}"}} 1.0' in text
    assert "process_resident_memory_bytes" in text


def test_only_an_embedded_valkey_is_described(metrics: Metrics) -> None:
    assert sample(metrics, "embedded_valkey_info") is None
    for allocator in ("mimalloc-3.4.3", "libc"):
        metrics.embedded_valkey.started("9.1.2", allocator)
        assert sample(metrics, "embedded_valkey_info", version="9.1.2", allocator=allocator) == 1
    assert sample(metrics, "embedded_valkey_info", version="9.1.2", allocator="mimalloc-3.4.3") is None


def test_fsyncs_are_counted_with_an_embedded_valkey_only(metrics: Metrics) -> None:
    assert sample(metrics, "embedded_valkey_fsync_seconds") is None
    metrics.embedded_valkey.synced(0.25, None)
    assert sample(metrics, "embedded_valkey_fsync_seconds") == 0.25
    assert sample(metrics, "embedded_valkey_fsync_failures_total") == 0
    metrics.embedded_valkey.synced(0.5, OSError("broken"))
    assert sample(metrics, "embedded_valkey_fsync_failures_total") == 1
