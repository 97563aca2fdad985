"""Measures one server with many attached agents: memory, idle CPU, and the time until all are back after an outage."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from bench.child import Child
from bench.cluster import ATTACH_TIMEOUT_SECONDS, Cluster
from bench.findings import Finding
from bench.proc_files import CpuMeter, resident_bytes
from bench.scale import Scale


async def many_agents(cluster: Cluster, scale: Scale) -> tuple[list[Finding], dict[str, Any]]:
    """Attach all, with one connection each; measure them idle; let all lose their connection and reconnect at once."""
    count, server = scale.many_agents, cluster.pids["server"]
    async with AsyncExitStack() as stack:
        # Exclude one-time costs of the first agent.
        await stack.enter_async_context(cluster.agents("first", 1, 1))
        before, begun = resident_bytes(server), time.perf_counter()
        processes = await attach_many(cluster, stack, count, scale.agent_processes, 1)
        attaching_seconds = time.perf_counter() - begun
        idle = CpuMeter(cluster.pids)
        await asyncio.sleep(scale.idle_seconds)
        attached = resident_bytes(server)
        idle_cpu = idle.microseconds_per(1)
        storm = CpuMeter(cluster.pids)
        storm_seconds, retries = await _reconnect_all(processes)
        storm_cpu, by_others = storm.microseconds_per(count), storm.percent_by_others()
        after_storm = resident_bytes(server)
        in_agents = sum(resident_bytes(process.pid) for process in processes)
    findings = [
        Finding("server memory", (attached - before) / count / 1024, "KB/agent"),
        Finding("server memory in total", attached / 2**20, "MiB"),
        Finding("server memory in total after the storm", after_storm / 2**20, "MiB"),
        *(
            Finding(f"idle: {name} CPU", idle_cpu[name] / scale.idle_seconds / 10_000, "% of a core")
            for name in ("server", "valkey")
        ),
        Finding("attaching", count / attaching_seconds, "agents/s"),
        Finding("storm: until all are attached again", storm_seconds, "s"),
        Finding("storm: reconnects", count / storm_seconds, "agents/s"),
        Finding("storm: retries", retries, "in total"),
        *(Finding(f"storm: {name} CPU", storm_cpu[name], "µs/agent") for name in ("server", "valkey")),
        Finding("storm: CPU taken by agents and others", by_others, "% of all cores"),
    ]
    details = {
        "agents": count,
        "processes": scale.agent_processes,
        "connections_per_agent": 1,
        "server_bytes": {"before": before, "attached": attached, "after_storm": after_storm},
        "bytes_of_agent_processes": in_agents,
    }
    return findings, details


async def attach_many(
    cluster: Cluster, stack: AsyncExitStack, count: int, processes: int, capacity: int
) -> list[Child]:
    """Attach `count` agents in several processes; `stack` detaches them."""
    return await asyncio.gather(
        *(
            stack.enter_async_context(cluster.agents(f"agents{number}", count // processes, capacity))
            for number in range(processes)
        )
    )


async def _reconnect_all(processes: Sequence[Child]) -> tuple[float, int]:
    """Return the seconds until all are attached again, and the number of retries."""
    begun = time.perf_counter()
    for process in processes:
        await process.write_line("reconnect")
    retries = await asyncio.gather(*(process.line(ATTACH_TIMEOUT_SECONDS) for process in processes))
    return time.perf_counter() - begun, sum(map(int, retries))
