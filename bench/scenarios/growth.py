"""Measures whether a command costs more as remembered commands and attached agents become more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import Any

from bench.agents import AgentsPlan
from bench.bulk_fill import fill, finished_commands
from bench.cluster import Cluster
from bench.command_cost import LOADED_AGENTS, CommandCost, command_cost, idle_load
from bench.findings import Finding
from bench.scale import Scale
from bench.scenarios.many_agents import attach_many

AT_MOST = 1.25
REWRITE_CHECK_SECONDS = 0.5


async def growth_commands(cluster: Cluster, scale: Scale) -> tuple[list[Finding], dict[str, Any]]:
    """Measure with more and more finished commands in Valkey, of the agents that are measured."""
    costs: dict[int, CommandCost] = {}
    details: dict[str, Any] = {}
    plan = AgentsPlan(cluster.address, "agents", LOADED_AGENTS, scale.capacity)
    for count in scale.growth_commands:
        begun = time.perf_counter()
        await fill(cluster.valkey_url, plan.ids(), count - await finished_commands(cluster.valkey_url))
        filling = time.perf_counter() - begun
        await _no_rewrite(cluster)
        async with cluster.agents(plan.prefix, plan.count, plan.capacity) as agents:
            pids = {**cluster.pids, "agents": agents.pid}
            idle = await idle_load(pids, scale.growth_idle_seconds)
            before = await finished_commands(cluster.valkey_url)
            costs[count] = await command_cost(cluster, scale, pids, plan.ids(), idle)
        details[str(count)] = {
            **asdict(costs[count]),
            "idle_cpu": idle.rates,
            "remembered": (before, await finished_commands(cluster.valkey_url)),
            "seconds_to_fill": filling,
            "valkey_bytes": int((await cluster.valkey_info("memory"))["used_memory"]),
        }
    return _findings(costs, "commands"), details


async def growth_agents(cluster: Cluster, scale: Scale) -> tuple[list[Finding], dict[str, Any]]:
    """Measure with more and more attached agents."""
    costs: dict[int, CommandCost] = {}
    details: dict[str, Any] = {}
    for count in scale.growth_agents:
        processes = min(scale.agent_processes, count // LOADED_AGENTS)
        async with AsyncExitStack() as stack:
            children = await attach_many(cluster, stack, count, processes, scale.capacity)
            pids = {**cluster.pids, **{f"agents{number}": child.pid for number, child in enumerate(children)}}
            idle = await idle_load(pids, scale.growth_idle_seconds)
            # Neighbours in this order are in different processes.
            agent_ids = [f"agents{n % processes}-{n // processes}" for n in range(count // processes * processes)]
            costs[count] = await command_cost(cluster, scale, pids, agent_ids, idle)
        details[str(count)] = {**asdict(costs[count]), "idle_cpu": idle.rates, "processes": processes}
    return _findings(costs, "agents"), details


async def _no_rewrite(cluster: Cluster) -> None:
    """Wait until Valkey does not rewrite its AOF, which would count as CPU of the commands."""
    while True:
        state = await cluster.valkey_info("persistence")
        if state["aof_rewrite_in_progress"] == state["aof_rewrite_scheduled"] == "0":
            return
        await asyncio.sleep(REWRITE_CHECK_SECONDS)


def _findings(costs: Mapping[int, CommandCost], what: str) -> list[Finding]:
    smallest, *larger = costs
    findings = []
    for count, cost in costs.items():
        findings += [
            Finding(f"{count:,} {what}: batched", 1_000_000 / cost.batched_microseconds, "commands/s"),
            Finding(f"{count:,} {what}: total CPU", cost.total_cpu, "µs/command"),
            Finding(f"{count:,} {what}: p50", cost.p50_ms, "ms"),
        ]
    for count in larger:
        findings += [
            Finding(f"{count:,} / {smallest:,} {what}: {label}", ratio, "times", at_most=AT_MOST)
            for label, ratio in costs[count].ratios(costs[smallest]).items()
        ]
    return findings
