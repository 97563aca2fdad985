"""The comparison on a real cluster, beside a peer whose caller is a real process."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bench.cluster import Cluster, ServerVariant
from bench.findings import BenchFailed
from bench.peers.work import Shape
from bench.scale import Scale
from bench.scenarios.peers import compare
from tests.support.fake_peer import FakePeer

SMALL = Scale(
    rounds=2,
    agents=2,
    batch=10,
    batch_calls=2,
    outstanding=40,
    single_calls=5,
    peer_batched_commands=100,
    peer_single_commands=20,
    peer_latency_samples=10,
)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    # Short, as it holds Valkey's socket.
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with Cluster(Path(folder), ServerVariant()) as running:
            yield running


async def test_all_shapes_are_measured_side_by_side(cluster: Cluster) -> None:
    candidates = (FakePeer(), FakePeer("absent", missing="it is not installed"))
    findings, details = await compare(cluster, SMALL, candidates)
    figures = {finding.name: finding.value for finding in findings}
    for shape in ("batched", "50 at a time"):
        assert figures[f"{shape}: distributor"] > 0
        assert figures[f"{shape}: fake"] > 0
        assert figures[f"{shape}: distributor / fake"] > 0
    assert figures["one at a time, p99: distributor"] >= figures["one at a time, p50: distributor"] > 0
    turns = details["turns"]
    assert len(turns) == len(Shape) * 2 * SMALL.rounds
    own = next(turn["figures"] for turn in turns if turn["contender"] == "distributor")
    assert {"server", "valkey", "worker", "caller"} <= set(own)
    assert details["peers"] == {"fake": "keeps nothing"}
    assert details["left_out"] == {"absent": "it is not installed"}
    assert "absent is left out: it is not installed" in details["notes"]


async def test_a_caller_that_breaks_fails_the_run_with_its_log(cluster: Cluster) -> None:
    broken = FakePeer("broken", caller='print("ready", flush=True); input(); raise SystemExit("it broke")')
    with pytest.raises(BenchFailed, match="(?s)broken-caller process ended with 1.*it broke"):
        await compare(cluster, SMALL, [broken])


async def test_a_caller_that_prints_something_else_fails_the_run(cluster: Cluster) -> None:
    lying = FakePeer("lying", caller='print("ready", flush=True); input(); print("done", flush=True); input()')
    with pytest.raises(BenchFailed, match="the caller of lying printed 'done'"):
        await compare(cluster, SMALL, [lying])


async def test_a_worker_that_breaks_fails_the_run_at_once(cluster: Cluster) -> None:
    """Else the caller would wait for its results until the turn times out."""
    waiting = 'import signal; print("ready", flush=True); signal.pause()'
    broken = FakePeer("broken", worker='print("ready", flush=True); raise SystemExit("it broke")', caller=waiting)
    with pytest.raises(BenchFailed, match="(?s)broken-worker process ended with 1.*it broke"):
        await compare(cluster, SMALL, [broken])
