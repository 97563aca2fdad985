"""How many agents may be attached to this server, and how many streams may be open for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from distributor.errors import ResourceExhausted


class AgentAdmission:
    """Counts streams from their first moment, and agents from their Hello on, until all of theirs is tidied up.

    There may be twice as many streams as agents: all agents may come back at once before their old streams are seen to
    be dead. An agent that is here already is always let in, as its new stream takes the place of the old one.
    """

    def __init__(self, max_agents: int) -> None:
        self._max_agents = max_agents
        self._streams = 0
        self._agents: Counter[str] = Counter()
        """Streams of each agent whose Hello was accepted."""

    @contextmanager
    def stream(self) -> Iterator[None]:
        """A stream of which nothing is known yet. Raises ResourceExhausted where too many are open."""
        if self._streams >= 2 * self._max_agents:
            raise self._too_many(f"{self._streams:,} streams of agents are open already, twice the limit of agents")
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    @contextmanager
    def agent(self, agent_id: str) -> Iterator[None]:
        """The agent that the stream is of. Raises ResourceExhausted where too many others are here."""
        if agent_id not in self._agents and len(self._agents) >= self._max_agents:
            raise self._too_many(f"{len(self._agents):,} agents are attached already, the limit")
        self._agents[agent_id] += 1
        try:
            yield
        finally:
            self._agents[agent_id] -= 1
            if not self._agents[agent_id]:
                del self._agents[agent_id]

    def _too_many(self, what: str) -> ResourceExhausted:
        return ResourceExhausted(f"{what} (max_agents)", reason="TOO_MANY_AGENTS", retry_after_seconds=30.0)
