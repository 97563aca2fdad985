"""Measures commands per second, from the call that queues them to the watcher that sees them complete."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from bench.agents import AgentsPlan
from bench.cluster import Cluster
from bench.command_profile import CommandProfile
from bench.cpu_findings import PROCESSES, CpuTargets, cpu_findings
from bench.findings import Finding
from bench.load import Callers, CompletionWatch
from bench.proc_files import CpuMeter
from bench.scale import Scale
from distributor.client import CommandClient

Queue = Callable[[Callers, int], Awaitable[None]]
WARM_UP_SHARE = 5


@dataclass(frozen=True)
class Work:
    """The commands of one round, and the number of concurrent calls that queue them."""

    queue: Queue
    calls: int
    commands: int


@dataclass(frozen=True)
class Targets:
    """What a scenario should reach."""

    commands_per_second: float
    cpu: CpuTargets


async def throughput_batched(cluster: Cluster, scale: Scale) -> tuple[list[Finding], dict[str, Any]]:
    """Measure QueueCommands with several concurrent calls."""

    async def queue(callers: Callers, commands: int) -> None:
        await callers.queue_batches(commands, scale.batch)

    targets = Targets(10_000, CpuTargets(total=125, server=50, valkey=55))
    return await _throughput(cluster, scale, Work(queue, scale.batch_calls, scale.batched_commands), targets)


async def throughput_single(cluster: Cluster, scale: Scale) -> tuple[list[Finding], dict[str, Any]]:
    """Measure QueueCommand, one command per call."""

    async def queue(callers: Callers, commands: int) -> None:
        await callers.queue_singly(commands)

    targets = Targets(2_500, CpuTargets())
    return await _throughput(cluster, scale, Work(queue, scale.single_calls, scale.single_commands), targets)


async def throughput_gathered(cluster: Cluster, scale: Scale) -> tuple[list[Finding], dict[str, Any]]:
    """Measure concurrent callers of `CommandClient.queue` on one client, which sends their commands together."""
    findings: list[Finding] = []
    details: dict[str, Any] = {}
    async with CommandClient(cluster.address) as client:

        async def queue(callers: Callers, commands: int) -> None:
            await callers.queue_with_client(client, commands)

        for count in scale.gathered_callers:
            work = Work(queue, count, scale.gathered_commands)
            found, details[f"{count} callers"] = await _throughput(cluster, scale, work, Targets(8_000, CpuTargets()))
            findings += [replace(one, name=f"{count} callers: {one.name}") for one in found]
    return findings, details


async def _throughput(
    cluster: Cluster, scale: Scale, work: Work, targets: Targets
) -> tuple[list[Finding], dict[str, Any]]:
    agent_ids = AgentsPlan(cluster.address, "agents", scale.agents, scale.capacity).ids()
    rounds: list[dict[str, float]] = []
    async with (
        cluster.agents("agents", scale.agents, scale.capacity) as agents,
        cluster.channel() as watching,
        cluster.channel() as calling,
        CompletionWatch(watching, agent_ids) as endings,
    ):
        callers = Callers(calling, endings, agent_ids, calls=work.calls, outstanding=scale.outstanding)
        await work.queue(callers, work.commands // WARM_UP_SHARE)
        for _ in range(scale.rounds):
            cpu = CpuMeter({**cluster.pids, "agents": agents.pid})
            begun = time.perf_counter()
            await work.queue(callers, work.commands)
            seconds = time.perf_counter() - begun
            rounds.append(
                {
                    "commands_per_second": work.commands / seconds,
                    **cpu.microseconds_per(work.commands),
                    "percent_by_others": cpu.percent_by_others(),
                }
            )
        async with CommandProfile(cluster, work.commands) as profile:
            await work.queue(callers, work.commands)
    details = {"rounds": rounds, "commands_in_a_round": work.commands, "calls_at_once": work.calls}
    return [*_findings(rounds, targets), *profile.findings()], {**details, "profile": profile.details()}


def _findings(rounds: list[dict[str, float]], targets: Targets) -> list[Finding]:
    def middle(name: str) -> float:
        return median(one[name] for one in rounds)

    return [
        Finding("median", middle("commands_per_second"), "commands/s", at_least=targets.commands_per_second),
        Finding("best", max(one["commands_per_second"] for one in rounds), "commands/s"),
        *cpu_findings({name: middle(name) for name in PROCESSES}, targets.cpu),
        Finding("CPU taken by others", middle("percent_by_others"), "% of all cores"),
    ]
