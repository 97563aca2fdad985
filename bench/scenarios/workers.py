"""Measures a server of one process, and of several workers, with callers and agents on many connections."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from bench.agents import AgentsPlan
from bench.cluster import Cluster
from bench.findings import Finding
from bench.load import Callers, CompletionWatch
from bench.proc_files import CpuMeter
from bench.scale import Scale
from bench.worker_cluster import WorkerCluster

GROUPS: Final = 4
"""Each has its own agents, a connection to queue on, and one to watch on: a connection is served by one worker."""
WARM_UP_SHARE: Final = 5


class _Cost(NamedTuple):
    commands_per_second: float
    server: float
    """Microseconds of CPU per command: of all processes of the server."""
    total: float
    """The same of all processes that a command passes through."""
    by_others: float
    """Percent of all cores taken by other processes."""


class _Site(NamedTuple):
    """A server with the groups that use it."""

    groups: list[Callers]
    server: set[str]
    """Names in `pids` of the processes of the server."""
    pids: dict[str, int]

    async def queue(self, scale: Scale, commands: int) -> int:
        each = max(1, commands // GROUPS // scale.batch) * scale.batch
        await asyncio.gather(*[callers.queue_batches(each, scale.batch) for callers in self.groups])
        return each * GROUPS


async def workers(cluster: Cluster, scale: Scale) -> tuple[list[Finding], dict[str, Any]]:
    """Measure batches with each number of workers. Each has a server and a Valkey of its own."""
    costs: dict[int, list[_Cost]] = {}
    for count in scale.workers:
        async with _site(count, scale) as site:
            await site.queue(scale, scale.batched_commands // WARM_UP_SHARE)
            costs[count] = [await _round(site, scale) for _ in range(scale.rounds)]
    findings = [finding for count in scale.workers for finding in _findings(count, costs[count])]
    return findings, {str(count): [cost._asdict() for cost in found] for count, found in costs.items()}


@asynccontextmanager
async def _site(count: int, scale: Scale) -> AsyncIterator[_Site]:
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True))
        cluster = await stack.enter_async_context(WorkerCluster(Path(folder), count))
        server = {f"server {number}": pid for number, pid in enumerate(cluster.server_pids)}
        pids = {**server, "valkey": cluster.pids["valkey"], "load": cluster.pids["load"]}
        groups = []
        for number in range(GROUPS):
            plan = AgentsPlan("", f"group-{number}", scale.agents // 2, scale.capacity)
            agents = await stack.enter_async_context(cluster.agents(plan.prefix, plan.count, plan.capacity))
            pids[plan.prefix] = agents.pid
            groups.append(await _callers(cluster, plan.ids(), scale, stack))
        yield _Site(groups, set(server), pids)


async def _callers(cluster: Cluster, agent_ids: list[str], scale: Scale, stack: AsyncExitStack) -> Callers:
    watching, calling = [await stack.enter_async_context(cluster.channel()) for _ in range(2)]
    endings = await stack.enter_async_context(CompletionWatch(watching, agent_ids))
    outstanding = scale.outstanding // GROUPS
    return Callers(calling, endings, agent_ids, calls=max(1, scale.batch_calls // GROUPS), outstanding=outstanding)


async def _round(site: _Site, scale: Scale) -> _Cost:
    cpu, begun = CpuMeter(site.pids), time.perf_counter()
    commands = await site.queue(scale, scale.batched_commands)
    seconds, costs = time.perf_counter() - begun, cpu.microseconds_per(commands)
    server = sum(cost for name, cost in costs.items() if name in site.server)
    return _Cost(commands / seconds, server, sum(costs.values()), cpu.percent_by_others())


def _findings(count: int, costs: list[_Cost]) -> list[Finding]:
    def middle(figure: str) -> float:
        return float(median(getattr(cost, figure) for cost in costs))

    name = "1 process" if count == 1 else f"{count} workers"
    return [
        Finding(name, middle("commands_per_second"), "commands/s"),
        Finding(f"{name}: server CPU", middle("server"), "µs/command"),
        Finding(f"{name}: total CPU", middle("total"), "µs/command"),
        Finding(f"{name}: CPU taken by others", middle("by_others"), "%"),
    ]
