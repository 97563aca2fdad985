"""Limits how often one agent connects and how many streams it has, before its Hello and before limits of all agents."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from distributor.errors import ResourceExhausted
from distributor.model.recent_peers import RecentPeers
from distributor.model.token_bucket import TokenBucket
from distributor.settings.agent_limits import AgentLimitSettings

MAX_AGENTS: Final = 20_000
"""Agents without a stream that are remembered. One that is forgotten begins again with a full bucket."""
STREAMS_RETRY_SECONDS: Final = 10.0


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
        self._agents = RecentPeers(self._bucket, max_agents)

    def __len__(self) -> int:
        return len(self._agents)

    @contextmanager
    def stream(self, agent_id: str) -> Iterator[None]:
        """Count an open stream. Raises ResourceExhausted beyond `agent_connects` and `agent_streams`."""
        bucket, streams = self._agents.of(agent_id), self._agents.streams(agent_id)
        if streams >= self._settings.agent_streams:
            raise ResourceExhausted(
                f"agent '{agent_id}' has {streams:,} streams open, the limit (agent_streams)",
                reason="TOO_MANY_AGENT_STREAMS",
                retry_after_seconds=STREAMS_RETRY_SECONDS,
            )
        wait = bucket.take(1, self._clock()) if bucket is not None else 0.0
        if wait:
            raise ResourceExhausted(
                f"agent '{agent_id}' connects more than {self._settings.agent_connects:,} times a minute, the limit "
                "(agent_connects)",
                reason="CONNECTS_TOO_OFTEN",
                retry_after_seconds=wait,
            )
        with self._agents.stream(agent_id):
            yield

    def _bucket(self) -> TokenBucket | None:
        per_minute = self._settings.agent_connects
        return TokenBucket(per_minute / 60, per_minute, self._clock()) if per_minute else None
