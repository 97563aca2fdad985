"""Measures how exactly time limits and idle limits end commands while other programs print at full speed."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any, Final

from bench.cluster import Cluster
from bench.findings import BenchFailed, Finding, percentile
from bench.proc_files import CpuMeter
from bench.scale import Scale
from bench.scenarios.cancel_flood import AGENT_ID, flood, flood_agent
from distributor.client import CommandClient, CommandRequest

FLOODS: Final = 2
LIMIT_SECONDS: Final = 1.0
TOGETHER: Final = 10
"""Commands that reach their limit at about the same time."""
EXACT_MS: Final = 100.0


async def limits_loaded(cluster: Cluster, scale: Scale) -> tuple[list[Finding], dict[str, Any]]:
    """Let commands reach their limits, and compare their receipts."""
    async with (
        flood_agent(cluster, FLOODS + TOGETHER) as agent,
        CommandClient(cluster.address) as client,
        AsyncExitStack() as floods,
    ):
        for _ in range(FLOODS):
            await floods.enter_async_context(flood(client))
        meter = CpuMeter({**cluster.pids, "agent": agent.pid})
        run = await _excess(client, scale.limit_samples, "time_limit")
        idle = await _excess(client, scale.limit_samples, "idle_limit")
        by_others = meter.percent_by_others()
    findings = [
        *_findings("time limit", run),
        *_findings("idle limit", idle),
        Finding("CPU taken by others", by_others, "% of all cores"),
    ]
    return findings, {"samples": scale.limit_samples, "floods": FLOODS}


def _findings(name: str, excess: list[float]) -> list[Finding]:
    return [
        Finding(f"{name} exceeded by: p50", percentile(excess, 50), "ms"),
        Finding(f"{name} exceeded by: p99", percentile(excess, 99), "ms", at_most=EXACT_MS),
    ]


async def _excess(client: CommandClient, samples: int, limit: str) -> list[float]:
    """By how many milliseconds commands exceeded their limit, from start to end by Valkey's clock, sorted."""
    excess: list[float] = []
    while len(excess) < samples:
        excess += await asyncio.gather(*(_one(client, limit) for _ in range(TOGETHER)))
    return sorted(excess)


async def _one(client: CommandClient, limit: str) -> float:
    request = CommandRequest(
        AGENT_ID,
        "EXEC",
        {"argv": ["sleep", "600"]},
        time_limit_seconds=LIMIT_SECONDS if limit == "time_limit" else None,
        idle_limit_seconds=LIMIT_SECONDS if limit == "idle_limit" else None,
    )
    command_id = (await client.queue(request)).command.command_id
    result = await client.wait(command_id)
    if result.reason.code != limit:
        raise BenchFailed(f"a command with a {limit} ended as {result.status.value}: {result.reason.code}")
    receipts = (await client.get(command_id)).state.receipts
    return receipts.finished_ms - receipts.started_ms - LIMIT_SECONDS * 1_000
