"""Measures the latency of one command on an idle system, against the floor of its messages."""

from __future__ import annotations

from typing import Any

from bench.cluster import Cluster
from bench.command_profile import CommandProfile
from bench.cpu_findings import CpuTargets, cpu_findings
from bench.findings import Finding, percentile
from bench.floor import Floor, measure_floor
from bench.load import CompletionWatch
from bench.one_at_a_time import latencies
from bench.proc_files import CpuMeter
from bench.scale import Scale

AGENT_IDS = ["agents-0"]
PROFILED_SHARE = 4


async def latency_idle(cluster: Cluster, scale: Scale) -> tuple[list[Finding], dict[str, Any]]:
    """Measure one command at a time, from QueueCommand to its completion on the watcher's stream."""
    async with (
        cluster.agents("agents", 1, scale.capacity) as agents,
        cluster.channel() as watching,
        cluster.channel() as calling,
        CompletionWatch(watching, AGENT_IDS) as endings,
    ):
        await latencies(calling, endings, AGENT_IDS, scale.latency_samples // 10)
        cpu = CpuMeter({**cluster.pids, "agents": agents.pid})
        measured = sorted(await latencies(calling, endings, AGENT_IDS, scale.latency_samples))
        costs, by_others = cpu.microseconds_per(scale.latency_samples), cpu.percent_by_others()
        async with CommandProfile(cluster, scale.latency_samples // PROFILED_SHARE) as profile:
            await latencies(calling, endings, AGENT_IDS, scale.latency_samples // PROFILED_SHARE)
        floor = await measure_floor(cluster, scale.latency_samples)
    findings = [
        *_findings(measured, floor),
        *cpu_findings(costs, CpuTargets(server=1_000)),
        Finding("CPU taken by others", by_others, "% of all cores"),
        *profile.findings(),
    ]
    return findings, {"samples": len(measured), "floor_ms": floor._asdict(), "profile": profile.details()}


def _findings(measured: list[float], floor: Floor) -> list[Finding]:
    p50, p99 = percentile(measured, 50), percentile(measured, 99)
    return [
        Finding("p50", p50, "ms"),
        Finding("p90", percentile(measured, 90), "ms"),
        Finding("p99", p99, "ms"),
        Finding("max", measured[-1], "ms"),
        Finding("floor: a unary echo", floor.unary, "ms"),
        Finding("floor: a stream echo", floor.stream, "ms"),
        Finding("floor: a Valkey function", floor.function, "ms"),
        Finding("floor of the path, 3 exchanges with Valkey", floor.three_exchanges, "ms"),
        Finding("floor of the path, 2 exchanges with Valkey", floor.two_exchanges, "ms"),
        Finding("p50 / floor, 3 exchanges", p50 / floor.three_exchanges, "times", at_most=1.9),
        Finding("p99 / floor, 3 exchanges", p99 / floor.three_exchanges, "times", at_most=3.0),
        Finding("p50 / floor, 2 exchanges", p50 / floor.two_exchanges, "times"),
    ]
