"""Measures what each durability costs, on the disk as it is and on slowed ones."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from bench.agents import AgentsPlan
from bench.cluster import Cluster
from bench.durable_cluster import DurableCluster, DurableVariant
from bench.findings import Finding, percentile
from bench.load import Callers, CompletionWatch
from bench.one_at_a_time import latencies
from bench.proc_files import CpuMeter
from bench.scale import Scale
from bench.slow_disk import SlowDisk
from distributor.store.allocator import find_allocator
from distributor.store.server_binary import find_server_binary

UNPROVEN: Final = DurableVariant("everysec, unproven", appendfsync="everysec", instead="unproven")
"""Loses what was acknowledged when Valkey is killed on a slow disk: what the others are compared with."""
PROCESS: Final = DurableVariant("process, embedded")
DISK: Final = DurableVariant("disk, embedded", "disk")
ALWAYS: Final = DurableVariant("disk, always", "disk", "always")
VARIANTS: Final = (
    UNPROVEN,
    PROCESS,
    DurableVariant("process, everysec", appendfsync="everysec"),
    DurableVariant("process, always", appendfsync="always"),
    DISK,
    ALWAYS,
    DurableVariant("everysec and WAITAOF", appendfsync="everysec", instead="waitaof"),
    DurableVariant("always and WAITAOF", appendfsync="always", instead="waitaof"),
    DurableVariant("replicated, everysec", "replicated", "everysec", replica=True),
)


class _Cost(NamedTuple):
    commands_per_second: float
    cpu: float
    """Microseconds of the server and Valkey per command, of those queued in batches."""
    p50: float
    """Milliseconds of one command at a time."""
    by_others: float
    """Percent of all cores taken by other processes."""


async def durability(cluster: Cluster, scale: Scale) -> tuple[list[Finding], dict[str, Any]]:
    """Measure batches and single commands under each durability. Each has a server and a Valkey of its own."""
    costs: dict[str, dict[str, _Cost]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-disk-") as folder:
        disk = SlowDisk(Path(folder))
        for delay_ms in scale.durability_disks:
            disk.set(delay_ms)
            slowed = disk if delay_ms else None
            with _on(slowed):
                name = f"+{delay_ms} ms" if slowed else "as it is"
                costs[name] = {one.name: await _cost(one, scale, slowed) for one in VARIANTS}
    details = {
        disk_name: {name: cost._asdict() for name, cost in by_variant.items()}
        for disk_name, by_variant in costs.items()
    }
    return _findings(costs), details


async def _cost(variant: DurableVariant, scale: Scale, disk: SlowDisk | None) -> _Cost:
    samples = scale.durability_samples if disk is None else scale.durability_samples // 5
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        async with DurableCluster(Path(folder), variant, disk) as cluster:
            return await _measured(cluster, scale, samples)


async def _measured(cluster: DurableCluster, scale: Scale, samples: int) -> _Cost:
    agent_ids = AgentsPlan(cluster.address, "agents", scale.agents, scale.capacity).ids()
    commands = scale.durability_batched
    rates: list[float] = []
    async with (
        cluster.agents("agents", scale.agents, scale.capacity),
        cluster.channel() as watching,
        cluster.channel() as calling,
        CompletionWatch(watching, agent_ids) as endings,
    ):
        callers = Callers(calling, endings, agent_ids, calls=scale.batch_calls, outstanding=scale.outstanding)
        await callers.queue_batches(commands // 2, scale.batch)
        cpu = CpuMeter(cluster.pids)
        for _ in range(scale.durability_rounds):
            begun = time.perf_counter()
            await callers.queue_batches(commands, scale.batch)
            rates.append(commands / (time.perf_counter() - begun))
        costs, by_others = cpu.microseconds_per(commands * scale.durability_rounds), cpu.percent_by_others()
        alone = sorted(await latencies(calling, endings, agent_ids[:1], samples))
    return _Cost(median(rates), costs["server"] + costs["valkey"], percentile(alone, 50), by_others)


@contextmanager
def _on(disk: SlowDisk | None) -> Iterator[None]:
    """Let each Valkey that is started inside run on this disk, with the allocator that it would have otherwise."""
    if disk is None:
        yield
        return
    allocator = find_allocator()
    before = os.environ["PATH"]
    found = disk.server_on_path(find_server_binary().path, allocator.library if allocator else None)
    os.environ["PATH"] = f"{found}:{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before


def _findings(costs: dict[str, dict[str, _Cost]]) -> list[Finding]:
    findings: list[Finding] = []
    for disk, by_variant in costs.items():
        for name, cost in by_variant.items():
            findings += [
                Finding(f"disk {disk}: {name}", cost.commands_per_second, "commands/s"),
                Finding(f"disk {disk}: {name}: CPU", cost.cpu, "µs/command of server and Valkey"),
                Finding(f"disk {disk}: {name}: p50 alone", cost.p50, "ms"),
            ]
    fast = next(iter(costs.values()))
    rate = {name: cost.commands_per_second for name, cost in fast.items()}
    return [
        Finding("process, embedded / unproven", rate[PROCESS.name] / rate[UNPROVEN.name], "times", at_least=0.95),
        Finding("disk / process, embedded", rate[DISK.name] / rate[PROCESS.name], "times", at_least=0.75),
        Finding("disk, always / process, embedded", rate[ALWAYS.name] / rate[PROCESS.name], "times", at_least=0.75),
        Finding("CPU taken by others, median", median(cost.by_others for cost in fast.values()), "% of all cores"),
        *findings,
    ]
