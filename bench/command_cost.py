"""What a command costs under one condition: time, latency and CPU time, without the cost of the idle system."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.cluster import Cluster
from bench.findings import percentile
from bench.load import Callers, CompletionWatch
from bench.one_at_a_time import latencies
from bench.proc_files import CpuMeter
from bench.scale import Scale

LOADED_AGENTS = 10
"""Agents that get the batched commands: as many under each condition, so that messages carry as many commands."""

LABELS = {
    "batched_microseconds": "time per command",
    "total_cpu": "total CPU",
    "server_cpu": "server CPU",
    "valkey_cpu": "Valkey CPU",
    "p50_ms": "p50",
    "single_server_cpu": "server CPU, one at a time",
}


@dataclass(frozen=True)
class CommandCost:
    """The costs of a command. CPU times are in microseconds, above those of the idle system."""

    batched_microseconds: float
    """Time per command, queued in batches: the reciprocal of the throughput."""
    total_cpu: float
    server_cpu: float
    valkey_cpu: float
    p50_ms: float
    """One command at a time."""
    single_server_cpu: float

    def ratios(self, smallest: CommandCost) -> dict[str, float]:
        """Return each cost relative to the same cost under the smallest condition."""
        return {label: getattr(self, name) / getattr(smallest, name) for name, label in LABELS.items()}


@dataclass(frozen=True)
class IdleLoad:
    """CPU seconds per second of each process while nothing is queued."""

    rates: Mapping[str, float]

    def above(self, meter: CpuMeter, commands: int) -> dict[str, float]:
        """Return microseconds of CPU per command by process, without what the idle system would have used.

        At least 1: below that, CPU times are too coarse to compare.
        """
        elapsed = meter.elapsed()
        return {
            name: max(1.0, (seconds - self.rates[name] * elapsed) / commands * 1_000_000)
            for name, seconds in meter.seconds().items()
        }


async def idle_load(pids: Mapping[str, int], seconds: float) -> IdleLoad:
    """Measure the idle system for some seconds."""
    meter = CpuMeter(pids)
    await asyncio.sleep(seconds)
    return IdleLoad({name: used / meter.elapsed() for name, used in meter.seconds().items()})


async def command_cost(
    cluster: Cluster, scale: Scale, pids: Mapping[str, int], agent_ids: Sequence[str], idle: IdleLoad
) -> CommandCost:
    """Measure commands in batches for a few of the agents, then one command at a time for agents in turn."""
    loaded = agent_ids[:LOADED_AGENTS]
    async with (
        cluster.channel() as watching,
        cluster.channel() as calling,
        CompletionWatch(watching, []) as endings,
    ):
        callers = Callers(calling, endings, loaded, calls=scale.batch_calls, outstanding=scale.outstanding)
        await callers.queue_batches(scale.growth_batched, scale.batch)
        rounds = [await _batched(callers, scale, pids, idle) for _ in range(scale.growth_rounds)]
        meter = CpuMeter(pids)
        measured = sorted(await latencies(calling, endings, agent_ids, scale.growth_samples))
        single = idle.above(meter, scale.growth_samples)
    middle = {name: median(one[name] for one in rounds) for name in ("time", "total", "server", "valkey")}
    return CommandCost(
        middle["time"],
        middle["total"],
        middle["server"],
        middle["valkey"],
        percentile(measured, 50),
        single["server"],
    )


async def _batched(callers: Callers, scale: Scale, pids: Mapping[str, int], idle: IdleLoad) -> dict[str, float]:
    meter, begun = CpuMeter(pids), time.perf_counter()
    await callers.queue_batches(scale.growth_batched, scale.batch)
    seconds = time.perf_counter() - begun
    costs = idle.above(meter, scale.growth_batched)
    return {"time": seconds / scale.growth_batched * 1_000_000, "total": sum(costs.values()), **costs}
