"""The metrics of several processes as those of one."""

from __future__ import annotations

import json

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from distributor.model.lifecycle import CommandStatus
from distributor.observability.families import Document, MergedFamilies, family_documents
from distributor.observability.metrics import Metrics


def process(agents: int) -> list[Document]:
    metrics = Metrics()
    metrics.agents_connected(agents)
    metrics.commands(CommandStatus.QUEUED, agents)
    metrics.loop_lag(0.5)
    return json.loads(json.dumps(family_documents(metrics.registry)))  # type: ignore[no-any-return]


def test_each_sample_names_its_process_and_each_family_is_there_once() -> None:
    own = CollectorRegistry()
    Gauge("distributor_workers", "Workers.", registry=own).set(2)
    Counter("distributor_worker_restarts", "Restarts.", registry=own).inc()
    merged = MergedFamilies("worker", own, {"0": process(3), "1": process(4)})
    text = generate_latest(merged).decode()
    lines = text.splitlines()
    assert 'distributor_agents_connected{worker="0"} 3.0' in lines
    assert 'distributor_agents_connected{worker="1"} 4.0' in lines
    assert 'distributor_commands{status="queued",worker="1"} 4.0' in lines
    assert 'distributor_event_loop_lag_seconds_count{worker="0"} 1.0' in lines
    assert "distributor_workers 2.0" in lines
    types = [line for line in lines if line.startswith("# TYPE")]
    assert len(types) == len(set(types))
    # Strict about names, types and order.
    openmetrics = generate_openmetrics(merged).decode()  # type: ignore[no-untyped-call]
    names = [family.name for family in text_string_to_metric_families(openmetrics)]  # type: ignore[no-untyped-call]
    assert names.count("distributor_agents_connected") == 1
