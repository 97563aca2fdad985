"""Disconnects silent agents."""

from __future__ import annotations

import asyncio
import math
import time

from distributor.dispatch.agent_registry import AgentRegistry, CloseReason

CHECK_INTERVAL_SECONDS = 1.0
LATE_SECONDS = 1.0
"""A check this late means that the process was paused or the loop blocked: messages lie unread."""
PATIENCE_SECONDS = 2.0
"""Time to read them, before anybody counts as silent."""


class Liveness:
    """One loop over the agents attached here. Heartbeats use the stream, so a broken stream counts as silence.

    After a pause of this process, such as SIGSTOP, the streams are read before anybody counts as silent.
    """

    def __init__(
        self,
        registry: AgentRegistry,
        offline_after: float = 30.0,
        check_interval_seconds: float = CHECK_INTERVAL_SECONDS,
    ) -> None:
        self._registry = registry
        self._check_interval_seconds = check_interval_seconds
        self._offline_after_ms = offline_after * 1000
        self._due_at = math.inf
        self._patient_until = 0.0

    async def run(self) -> None:
        """Check every second until cancelled."""
        # A pause before the first check counts as well.
        self._due_at = (time.monotonic() + self._check_interval_seconds) * 1000
        while True:
            await asyncio.sleep(self._check_interval_seconds)
            self.run_once(time.monotonic() * 1000)

    def run_once(self, now: float) -> int:
        """End streams that have been silent too long; return how many. `now` in monotonic milliseconds."""
        if now - self._due_at > LATE_SECONDS * 1000:
            self._patient_until = now + PATIENCE_SECONDS * 1000
        self._due_at = now + self._check_interval_seconds * 1000
        if now < self._patient_until:
            return 0
        silent = [agent for agent in self._registry if agent.session.silence_ms(now) > self._offline_after_ms]
        for agent in silent:
            agent.end(CloseReason.SILENT)
        return len(silent)
