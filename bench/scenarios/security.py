"""Measures what TLS, client certificates and tokens cost, in rounds beside a server without them."""

from __future__ import annotations

import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from bench.agents import AgentsPlan
from bench.cluster import Cluster
from bench.cpu_findings import total_cost
from bench.findings import Finding
from bench.load import Callers, CompletionWatch
from bench.proc_files import CpuMeter
from bench.scale import Scale
from bench.secured_cluster import SecuredCluster

MOST_TIMES: Final = 1.15
WAYS: Final = ("batched", "steady", "single")
"""Batches and single calls as fast as they are answered, and single calls at a rate.

What is as fast as it is answered is slowed by what it costs, and then shares its exchanges with fewer others: so a
saturated server shows the difference larger than it is, and a rate shows what it is.
"""


class _Cost(NamedTuple):
    """One round: commands per second, and microseconds of CPU per command, of all processes and of the server."""

    commands_per_second: float
    total: float
    server: float


class _Side:
    """A cluster with agents and callers, ready for rounds."""

    def __init__(self, cluster: Cluster, scale: Scale) -> None:
        self._cluster = cluster
        self._scale = scale
        self.costs: dict[str, list[_Cost]] = {way: [] for way in WAYS}

    async def open(self, stack: AsyncExitStack) -> None:
        """Attach agents and open the connections of callers, for as long as the stack is open."""
        cluster, scale = self._cluster, self._scale
        agent_ids = AgentsPlan("", "agents", scale.agents, scale.capacity).ids()
        agents = await stack.enter_async_context(cluster.agents("agents", scale.agents, scale.capacity))
        watching, calling = [await stack.enter_async_context(cluster.channel()) for _ in range(2)]
        endings = await stack.enter_async_context(CompletionWatch(watching, agent_ids, cluster.authorization))
        self._pids = {**cluster.pids, "agents": agents.pid}
        self._callers = {
            way: Callers(
                calling,
                endings,
                agent_ids,
                calls=scale.batch_calls if way == "batched" else scale.single_calls,
                outstanding=scale.outstanding,
                metadata=cluster.authorization,
            )
            for way in WAYS
        }

    async def warm_up(self) -> None:
        """Run a part of a round of each kind."""
        for way in WAYS:
            await self._queue(way, 5)

    async def round(self, way: str) -> None:
        """Measure one round."""
        cpu, begun = CpuMeter(self._pids), time.perf_counter()
        commands = await self._queue(way, 1)
        seconds, costs = time.perf_counter() - begun, cpu.microseconds_per(commands)
        self.costs[way].append(_Cost(commands / seconds, total_cost(costs), costs["server"]))

    def details(self) -> dict[str, Any]:
        """Return every round."""
        return {way: [cost._asdict() for cost in costs] for way, costs in self.costs.items()}

    async def _queue(self, way: str, part: int) -> int:
        # One after the other on one watch: what the other way has queued counts as asked, too.
        scale, callers = self._scale, self._callers[way]
        if way == "batched":
            commands = scale.batched_commands // part // scale.batch * scale.batch
            await callers.queue_batches(commands, scale.batch)
        elif way == "steady":
            commands = scale.steady_commands // part
            await callers.queue_steadily(commands, scale.steady_rate)
        else:
            commands = scale.single_commands // part
            await callers.queue_singly(commands)
        for other in self._callers.values():
            if other is not callers:
                other.others_asked(commands)
        return commands


async def security(cluster: Cluster, scale: Scale) -> tuple[list[Finding], dict[str, Any]]:
    """Measure batches and single commands, on each side in turn."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True))
        secured = await stack.enter_async_context(SecuredCluster(Path(folder)))
        sides = {"plain": _Side(cluster, scale), "secured": _Side(secured, scale)}
        for side in sides.values():
            await side.open(stack)
            await side.warm_up()
        for _ in range(scale.rounds):
            for way in WAYS:
                for side in sides.values():
                    await side.round(way)
    findings = [finding for way in WAYS for finding in _findings(way, sides["plain"], sides["secured"])]
    details = {
        name: {way: [cost._asdict() for cost in side.costs[way]] for way in WAYS} for name, side in sides.items()
    }
    return findings, details


def _findings(way: str, plain: _Side, secured: _Side) -> list[Finding]:
    def middle(side: _Side, figure: str) -> float:
        return float(median(getattr(cost, figure) for cost in side.costs[way]))

    def times(figure: str) -> float:
        """Compare rounds that followed each other: other work on the machine slowed both."""
        pairs = zip(secured.costs[way], plain.costs[way], strict=True)
        return float(median(getattr(one, figure) / getattr(other, figure) for one, other in pairs))

    return [
        Finding(f"{way}: total CPU, secured / plain", times("total"), "times", at_most=MOST_TIMES),
        Finding(f"{way}: server CPU, secured / plain", times("server"), "times"),
        Finding(f"{way}: total CPU, plain", middle(plain, "total"), "µs/command"),
        Finding(f"{way}: total CPU, secured", middle(secured, "total"), "µs/command"),
        Finding(f"{way}: plain", middle(plain, "commands_per_second"), "commands/s"),
        Finding(f"{way}: secured", middle(secured, "commands_per_second"), "commands/s"),
    ]
