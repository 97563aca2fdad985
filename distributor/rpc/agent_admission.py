"""Limits on attached agents and open agent streams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from distributor.errors import ResourceExhausted


class AgentAdmission:
    """Counts streams from the moment they open and agents from their Hello, until their cleanup is complete.

    Twice as many streams as agents are allowed: all agents may reconnect at once before their old streams are known to
    be dead. An agent that is already attached is always admitted, as its new stream replaces the old one.
    """

    def __init__(self, max_agents: int) -> None:
        self._max_agents = max_agents
        self._streams = 0
        self._agents: Counter[str] = Counter()
        """Number of streams of each agent whose Hello was accepted."""

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Count a stream before its Hello. Raises ResourceExhausted if too many are open."""
        if self._streams >= 2 * self._max_agents:
            raise self._too_many(f"{self._streams:,} agent streams are already open, twice the limit")
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    @contextmanager
    def agent(self, agent_id: str) -> Iterator[None]:
        """Count the agent of a stream. Raises ResourceExhausted if too many other agents are attached."""
        if agent_id not in self._agents and len(self._agents) >= self._max_agents:
            raise self._too_many(f"{len(self._agents):,} agents are already attached, the limit")
        self._agents[agent_id] += 1
        try:
            yield
        finally:
            self._agents[agent_id] -= 1
            if not self._agents[agent_id]:
                del self._agents[agent_id]

    def _too_many(self, what: str) -> ResourceExhausted:
        return ResourceExhausted(f"{what} (max_agents)", reason="TOO_MANY_AGENTS", retry_after_seconds=30.0)
