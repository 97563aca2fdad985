"""The scenarios, one file each. A scenario takes a running cluster and returns its findings and details."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from bench.cluster import Cluster
from bench.findings import Finding
from bench.scale import Scale
from bench.scenarios.cancel_flood import cancel_flood
from bench.scenarios.dashboards import dashboards
from bench.scenarios.durability import durability
from bench.scenarios.growth import growth_agents, growth_commands
from bench.scenarios.id_guess import id_guess
from bench.scenarios.idle_agents import idle_agents
from bench.scenarios.latency_idle import latency_idle
from bench.scenarios.limits_loaded import limits_loaded
from bench.scenarios.many_agents import many_agents
from bench.scenarios.memory_commands import memory_commands
from bench.scenarios.memory_reconnects import memory_reconnects
from bench.scenarios.peers import peers
from bench.scenarios.security import security
from bench.scenarios.soak import soak
from bench.scenarios.throughput import throughput_batched, throughput_gathered, throughput_single
from bench.scenarios.workers import workers

Scenario = Callable[[Cluster, Scale], Awaitable[tuple[list[Finding], dict[str, Any]]]]

SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        throughput_batched,
        throughput_single,
        throughput_gathered,
        latency_idle,
        cancel_flood,
        limits_loaded,
        idle_agents,
        many_agents,
        growth_commands,
        growth_agents,
        memory_commands,
        memory_reconnects,
        dashboards,
        durability,
        security,
        workers,
        id_guess,
        soak,
        peers,
    )
}

WITH_MANY_AGENTS = {many_agents.__name__, growth_agents.__name__}
"""Scenarios that need `Scale.many_agents` connections to one server."""
