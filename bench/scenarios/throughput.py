"""Measures commands per second, from the call that queues them to the watcher that sees them complete."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

from bench.agents import AgentsPlan
from bench.cluster import Cluster
from bench.findings import Finding
from bench.load import Callers, CompletionWatch
from bench.proc_files import CpuMeter
from bench.scale import Scale

Queue = Callable[[Callers, int], Awaitable[None]]
WARM_UP_SHARE = 5


async def throughput_batched(cluster: Cluster, scale: Scale) -> tuple[list[Finding], dict[str, Any]]:
    """Measure QueueCommands with several concurrent calls."""

    async def queue(callers: Callers, commands: int) -> None:
        await callers.queue_batches(commands, scale.batch)

    return await _throughput(cluster, scale, queue, scale.batch_calls, scale.batched_commands, 10_000)


async def throughput_single(cluster: Cluster, scale: Scale) -> tuple[list[Finding], dict[str, Any]]:
    """Measure QueueCommand, one command per call."""

    async def queue(callers: Callers, commands: int) -> None:
        await callers.queue_singly(commands)

    return await _throughput(cluster, scale, queue, scale.single_calls, scale.single_commands, 1_500)


async def _throughput(
    cluster: Cluster, scale: Scale, queue: Queue, calls: int, commands: int, target: float
) -> tuple[list[Finding], dict[str, Any]]:
    agent_ids = AgentsPlan(cluster.address, "agents", scale.agents, scale.capacity).ids()
    rounds: list[dict[str, float]] = []
    async with (
        cluster.agents("agents", scale.agents, scale.capacity) as agents,
        cluster.channel() as watching,
        cluster.channel() as calling,
        CompletionWatch(watching, agent_ids) as endings,
    ):
        callers = Callers(calling, endings, agent_ids, calls=calls, outstanding=scale.outstanding)
        await queue(callers, commands // WARM_UP_SHARE)
        for _ in range(scale.rounds):
            cpu = CpuMeter({**cluster.pids, "agents": agents.pid})
            begun = time.perf_counter()
            await queue(callers, commands)
            seconds = time.perf_counter() - begun
            rounds.append(
                {
                    "commands_per_second": commands / seconds,
                    **cpu.microseconds_per(commands),
                    "percent_by_others": cpu.percent_by_others(),
                }
            )
    return _findings(rounds, target), {"rounds": rounds, "commands_in_a_round": commands, "calls_at_once": calls}


def _findings(rounds: list[dict[str, float]], target: float) -> list[Finding]:
    def middle(name: str) -> float:
        return median(one[name] for one in rounds)

    return [
        Finding("median", middle("commands_per_second"), "commands/s", at_least=target),
        Finding("best", max(one["commands_per_second"] for one in rounds), "commands/s"),
        *(Finding(f"{name} CPU", middle(name), "µs/command") for name in ("server", "valkey", "agents", "load")),
        Finding("CPU taken by others", middle("percent_by_others"), "% of all cores"),
    ]
