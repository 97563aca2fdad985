"""Limits how often, and how many times at once, one agent connects: before its Hello, and before it uses up for all."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from distributor.errors import ResourceExhausted
from distributor.model.token_bucket import TokenBucket
from distributor.settings.agent_limits import AgentLimitSettings

MAX_AGENTS: Final = 20_000
"""Agents that are remembered. One that is forgotten begins again with a full bucket."""
STREAMS_RETRY_SECONDS: Final = 10.0


class _Connects:
    """What one agent uses."""

    __slots__ = ("bucket", "streams")

    def __init__(self, bucket: TokenBucket | None) -> None:
        self.bucket = bucket
        self.streams = 0


class AgentConnects:
    """Counts by the agent that the credentials name. One event loop; memory is bounded."""

    def __init__(
        self,
        settings: AgentLimitSettings,
        clock: Callable[[], float] = time.monotonic,
        max_agents: int = MAX_AGENTS,
    ) -> None:
        """`clock` is in seconds."""
        self._settings = settings
        self._clock = clock
        self._max_agents = max_agents
        self._agents: OrderedDict[str, _Connects] = OrderedDict()

    def __len__(self) -> int:
        return len(self._agents)

    @contextmanager
    def stream(self, agent_id: str) -> Iterator[None]:
        """Count an open stream. Raises ResourceExhausted beyond `agent_connects` and `agent_streams`."""
        agent = self._of(agent_id)
        if agent.streams >= self._settings.agent_streams:
            raise ResourceExhausted(
                f"agent '{agent_id}' has {agent.streams:,} streams open, the limit (agent_streams)",
                reason="TOO_MANY_AGENT_STREAMS",
                retry_after_seconds=STREAMS_RETRY_SECONDS,
            )
        wait = agent.bucket.take(1, self._clock()) if agent.bucket is not None else 0.0
        if wait:
            raise ResourceExhausted(
                f"agent '{agent_id}' connects more than {self._settings.agent_connects:,} times a minute, the limit "
                "(agent_connects)",
                reason="CONNECTS_TOO_OFTEN",
                retry_after_seconds=wait,
            )
        agent.streams += 1
        try:
            yield
        finally:
            agent.streams -= 1

    def _of(self, agent_id: str) -> _Connects:
        agent = self._agents.get(agent_id)
        if agent is None:
            per_minute = self._settings.agent_connects
            bucket = TokenBucket(per_minute / 60, per_minute, self._clock()) if per_minute else None
            agent = self._agents[agent_id] = _Connects(bucket)
            if len(self._agents) > self._max_agents:
                self._forget_one()
        self._agents.move_to_end(agent_id)
        return agent

    def _forget_one(self) -> None:
        """Forget the agent that connected least recently, and has no stream open."""
        for agent_id, agent in self._agents.items():
            if not agent.streams:
                del self._agents[agent_id]
                return
