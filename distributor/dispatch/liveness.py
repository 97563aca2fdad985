"""Disconnects silent agents."""

from __future__ import annotations

import asyncio
import time

from distributor.dispatch.agent_registry import AgentRegistry, CloseReason

CHECK_INTERVAL_SECONDS = 1.0


class Liveness:
    """One loop over the agents attached here. Heartbeats use the stream, so a broken stream counts as silence."""

    def __init__(
        self,
        registry: AgentRegistry,
        offline_after: float = 30.0,
        check_interval_seconds: float = CHECK_INTERVAL_SECONDS,
    ) -> None:
        self._registry = registry
        self._check_interval_seconds = check_interval_seconds
        self._offline_after_ms = offline_after * 1000

    async def run(self) -> None:
        """Check every second until cancelled."""
        while True:
            await asyncio.sleep(self._check_interval_seconds)
            self.run_once(time.monotonic() * 1000)

    def run_once(self, now: float) -> int:
        """End streams that have been silent too long; return how many. `now` in monotonic milliseconds."""
        silent = [agent for agent in self._registry if agent.session.silence_ms(now) > self._offline_after_ms]
        for agent in silent:
            agent.end(CloseReason.SILENT)
        return len(silent)
