"""Measures the cost of idle attached agents."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

from bench.cluster import Cluster
from bench.findings import Finding
from bench.proc_files import CpuMeter, resident_bytes
from bench.scale import Scale


async def idle_agents(cluster: Cluster, scale: Scale) -> tuple[list[Finding], dict[str, Any]]:
    """Measure server memory and CPU per agent, with one connection each."""
    server = cluster.pids["server"]
    async with AsyncExitStack() as stack:
        # Exclude one-time costs of the first agent.
        await stack.enter_async_context(cluster.agents("first", 1, 1))
        before = resident_bytes(server)
        begun = time.perf_counter()
        await asyncio.gather(
            *(
                stack.enter_async_context(cluster.agents(f"idle{number}", scale.idle_agents // scale.idle_processes, 1))
                for number in range(scale.idle_processes)
            )
        )
        attaching_seconds = time.perf_counter() - begun
        attached = resident_bytes(server)
        cpu = CpuMeter({"server": server})
        await asyncio.sleep(scale.idle_seconds)
        settled = resident_bytes(server)
        server_cpu = cpu.microseconds_per(scale.idle_agents)["server"] / scale.idle_seconds
    count = scale.idle_agents
    findings = [
        Finding("server memory", (settled - before) / count / 1024, "KB/agent", at_most=48),
        Finding("server memory at once", (attached - before) / count / 1024, "KB/agent"),
        Finding("server CPU", server_cpu, "µs/agent/s"),
        Finding("attaching", count / attaching_seconds, "agents/s"),
    ]
    return findings, {"agents": count, "server_bytes": {"before": before, "attached": attached, "settled": settled}}
