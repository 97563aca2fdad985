"""Findings about the CPU time per command of each process, and of all together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.findings import Finding

PROCESSES = ("server", "valkey", "agents", "load")


@dataclass(frozen=True)
class CpuTargets:
    """Targets in microseconds per command; None without a target."""

    total: float | None = None
    server: float | None = None
    valkey: float | None = None


def cpu_findings(costs: Mapping[str, float], targets: CpuTargets) -> list[Finding]:
    """Return a finding for each process and for their total. `costs` are microseconds per command, by process."""
    at_most = {"server": targets.server, "valkey": targets.valkey}
    return [
        Finding("total CPU", total_cost(costs), "µs/command", at_most=targets.total),
        *(Finding(f"{name} CPU", costs[name], "µs/command", at_most=at_most.get(name)) for name in PROCESSES),
    ]


def total_cost(costs: Mapping[str, float]) -> float:
    """Return the CPU time of all processes that a command passes through, including the load."""
    return sum(costs[name] for name in PROCESSES)
