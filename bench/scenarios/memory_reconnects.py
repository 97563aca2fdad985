"""Measures how the server's memory grows with agent reconnects."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from bench.agents import InstantAgent
from bench.cluster import Cluster
from bench.findings import Finding, slope
from bench.proc_files import CpuMeter, resident_bytes
from bench.scale import Scale

FLAT_BYTES_PER_RECONNECT = 64.0
"""Less than a leaked stream; the rest is allocator noise."""
WARM_UP_SHARE = 5


async def memory_reconnects(cluster: Cluster, scale: Scale) -> tuple[list[Finding], dict[str, Any]]:
    """Measure resident memory over many sessions, each on a new connection and ended by Goodbye."""
    server, reconnects = cluster.pids["server"], scale.memory_reconnects
    step = reconnects // scale.memory_samples
    await _reconnect(cluster, scale, reconnects // WARM_UP_SHARE)
    cpu, begun = CpuMeter(cluster.pids), time.perf_counter()
    points: list[tuple[float, float]] = []
    for done in range(step, reconnects + 1, step):
        await _reconnect(cluster, scale, step)
        points.append((done, resident_bytes(server)))
    seconds = time.perf_counter() - begun
    findings = [
        Finding("server memory, slope", slope(points), "bytes/reconnect", at_most=FLAT_BYTES_PER_RECONNECT),
        Finding("server memory, second half", slope(points[len(points) // 2 :]), "bytes/reconnect"),
        Finding("server memory at the end", points[-1][1] / 2**20, "MiB"),
        Finding("server CPU", cpu.microseconds_per(reconnects)["server"], "µs/reconnect"),
        Finding("reconnects", reconnects / seconds, "per second"),
    ]
    return findings, {"reconnects": reconnects, "server_bytes": points}


async def _reconnect(cluster: Cluster, scale: Scale, times: int) -> None:
    """Attach and detach `times` times in total, with several agents at once."""
    turns = iter(range(times))

    async def come_and_go(agent_id: str) -> None:
        for _ in turns:
            agent = InstantAgent(agent_id, capacity=1)
            await agent.attach(cluster.address)
            await agent.leave()

    async with asyncio.TaskGroup() as group:
        for number in range(scale.reconnecting_agents):
            group.create_task(come_and_go(f"agent-{number}"))
