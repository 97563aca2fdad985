"""Measures the latency of one command on an idle system, against the floor of its messages."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import TYPE_CHECKING, Any

from bench.cluster import Cluster
from bench.command_profile import CommandProfile
from bench.cpu_findings import CpuTargets, cpu_findings
from bench.findings import Finding, percentile
from bench.floor import Floor, measure_floor
from bench.load import CompletionWatch, queue_request
from bench.proc_files import CpuMeter
from bench.scale import Scale
from distributor.v1.command_service_pb2_grpc import CommandServiceStub

if TYPE_CHECKING:
    from distributor.v1.command_service_pb2_grpc import CommandServiceAsyncStub

PAUSE_SECONDS = 0.005
"""Pause after each command, so that commands do not overlap."""
PROFILED_SHARE = 4


async def latency_idle(cluster: Cluster, scale: Scale) -> tuple[list[Finding], dict[str, Any]]:
    """Measure one command at a time, from QueueCommand to its completion on the watcher's stream."""
    async with (
        cluster.agents("agents", 1, scale.capacity) as agents,
        cluster.channel() as watching,
        cluster.channel() as calling,
        CompletionWatch(watching, ["agents-0"]) as endings,
    ):
        stub = CommandServiceStub(calling)
        await _latencies(stub, endings, scale.latency_samples // 10)
        # A garbage collection here would count as latency.
        gc.collect()
        gc.freeze()
        cpu = CpuMeter({**cluster.pids, "agents": agents.pid})
        latencies = sorted(await _latencies(stub, endings, scale.latency_samples))
        costs, by_others = cpu.microseconds_per(scale.latency_samples), cpu.percent_by_others()
        async with CommandProfile(cluster, scale.latency_samples // PROFILED_SHARE) as profile:
            await _latencies(stub, endings, scale.latency_samples // PROFILED_SHARE)
        floor = await measure_floor(cluster, scale.latency_samples)
    findings = [
        *_findings(latencies, floor),
        *cpu_findings(costs, CpuTargets(server=1_000)),
        Finding("CPU taken by others", by_others, "% of all cores"),
        *profile.findings(),
    ]
    return findings, {"samples": len(latencies), "floor_ms": floor._asdict(), "profile": profile.details()}


async def _latencies(stub: CommandServiceAsyncStub, endings: CompletionWatch, samples: int) -> list[float]:
    request = queue_request("agents-0")
    latencies = []
    for _ in range(samples):
        begun = time.perf_counter()
        response = await stub.QueueCommand(request)
        latencies.append((await endings.of(response.command.command_id) - begun) * 1000)
        await asyncio.sleep(PAUSE_SECONDS)
    return latencies


def _findings(latencies: list[float], floor: Floor) -> list[Finding]:
    p50, p99 = percentile(latencies, 50), percentile(latencies, 99)
    return [
        Finding("p50", p50, "ms"),
        Finding("p90", percentile(latencies, 90), "ms"),
        Finding("p99", p99, "ms"),
        Finding("max", latencies[-1], "ms"),
        Finding("floor: a unary echo", floor.unary, "ms"),
        Finding("floor: a stream echo", floor.stream, "ms"),
        Finding("floor: a Valkey function", floor.function, "ms"),
        Finding("floor of the path with 3 exchanges with Valkey", floor.three_exchanges, "ms"),
        Finding("floor of the path with 2 exchanges with Valkey", floor.two_exchanges, "ms"),
        Finding("p50 / floor with 3 exchanges", p50 / floor.three_exchanges, "times", at_most=1.9),
        Finding("p99 / floor with 3 exchanges", p99 / floor.three_exchanges, "times", at_most=3.0),
        Finding("p50 / floor with 2 exchanges", p50 / floor.two_exchanges, "times"),
    ]
