"""Sizes of the scenarios."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Counts of one run."""

    rounds: int = 5
    """Rounds of each throughput scenario, which reports the median."""
    agents: int = 10
    capacity: int = 100
    batch: int = 100
    """Commands per QueueCommands call."""
    batch_calls: int = 8
    """Concurrent QueueCommands calls."""
    batched_commands: int = 50_000
    """Commands per round."""
    outstanding: int = 4_000
    """Maximum number of unfinished commands over all agents."""
    single_calls: int = 50
    """Concurrent QueueCommand calls."""
    single_commands: int = 10_000
    """Commands per round."""
    steady_rate: float = 500.0
    """Commands per second that leave the processors half idle."""
    steady_commands: int = 2_000
    """Commands per round."""
    gathered_callers: tuple[int, ...] = (50, 500)
    """Numbers of concurrent callers of one client, measured in turn."""
    gathered_commands: int = 20_000
    """Commands per round."""
    latency_samples: int = 2_000
    cancel_samples: int = 100
    """Cancels of a flood, alone and beside others."""
    limit_samples: int = 100
    """Commands that reach a time limit, and as many that reach an idle limit."""
    idle_agents: int = 2_000
    idle_processes: int = 2
    many_agents: int = 10_000
    agent_processes: int = 4
    """Processes that hold the many agents."""
    idle_seconds: float = 22.0
    """Two heartbeats of every agent."""
    growth_commands: tuple[int, ...] = (1_000, 100_000, 1_000_000)
    """Numbers of remembered commands, measured in turn. Measuring adds to them."""
    growth_agents: tuple[int, ...] = (10, 1_000, 10_000)
    """Numbers of attached agents, measured in turn."""
    growth_rounds: int = 3
    growth_batched: int = 5_000
    """Commands per round."""
    growth_samples: int = 500
    growth_idle_seconds: float = 10.0
    """A heartbeat of every agent."""
    memory_commands: int = 200_000
    memory_reconnects: int = 20_000
    reconnecting_agents: int = 8
    memory_samples: int = 100
    dashboards: tuple[int, ...] = (1, 50, 200)
    """Numbers of dashboards, measured in turn."""
    dashboard_lines: int = 200
    """Output lines, each sent to all dashboards."""
    dashboard_endings: int = 100
    """Completed commands, each sent to all dashboards."""
    durability_disks: tuple[int, ...] = (0, 20)
    """By how many milliseconds the fsyncs of each disk are slowed, measured in turn."""
    durability_rounds: int = 3
    durability_batched: int = 10_000
    """Commands of each durability in a round."""
    durability_samples: int = 200
    """Single commands of each durability; a fifth of them on a slowed disk."""
    workers: tuple[int, ...] = (1, 2, 4)
    """Numbers of workers of a server, measured in turn."""
    soak_agents: int = 2_000
    soak_processes: int = 2
    soak_seconds: float = 600.0
    soak_reconnects_per_second: float = 50.0
    soak_commands_per_second: float = 100.0
    id_guesses: int = 1_000
    """Guesses of each kind of id by each method."""
    peer_batched_commands: int = 20_000
    """Commands of each contender in a round."""
    peer_single_commands: int = 5_000
    """Commands of each contender in a round."""
    peer_latency_samples: int = 500
    """Commands of each contender in a round."""


FULL = Scale()
QUICK = Scale(
    rounds=2,
    batched_commands=2_000,
    outstanding=1_000,
    single_commands=500,
    steady_commands=100,
    gathered_commands=1_000,
    latency_samples=100,
    cancel_samples=5,
    limit_samples=10,
    idle_agents=50,
    many_agents=60,
    agent_processes=2,
    idle_seconds=1.0,
    growth_commands=(200, 2_000),
    growth_agents=(10, 60),
    growth_rounds=1,
    growth_batched=500,
    growth_samples=20,
    growth_idle_seconds=0.5,
    memory_commands=4_000,
    memory_reconnects=200,
    memory_samples=20,
    dashboards=(1, 10),
    dashboard_lines=10,
    dashboard_endings=5,
    durability_disks=(5,),
    durability_rounds=1,
    durability_batched=400,
    durability_samples=10,
    workers=(1, 2),
    soak_agents=40,
    soak_seconds=5.0,
    soak_reconnects_per_second=10.0,
    soak_commands_per_second=50.0,
    id_guesses=20,
    peer_batched_commands=1_000,
    peer_single_commands=200,
    peer_latency_samples=20,
)
