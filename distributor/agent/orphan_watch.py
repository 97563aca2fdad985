"""Stops all work of an agent that has reached no server for too long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from distributor.agent.current_session import CurrentSession
from distributor.agent.gateway_stream import now
from distributor.observability.logging import get_logger

logger = get_logger()

LOOK_SECONDS: Final = 1.0
"""How late the watch may notice that the host slept: timers of the event loop stand still meanwhile."""


class OrphanWatch:
    """A background loop. The time counts from when the latest answered heartbeat was *sent*.

    The server counts from when it received the heartbeat, so it never believes that the agent has stopped earlier than
    it has. Time during which the host sleeps counts.
    """

    def __init__(
        self,
        after: float,
        session: CurrentSession,
        orphaned: Callable[[], None],
        working: asyncio.Event,
        clock: Callable[[], float] = now,
    ) -> None:
        """Call `orphaned` after `after` seconds without a server, and again after each further time.

        `working` is set while a command runs; otherwise there is nothing to stop, and the watch sleeps. `clock` is the
        one of `session`, in seconds; it goes on while the host sleeps.
        """
        self._after = after
        self._session = session
        self._orphaned = orphaned
        self._working = working
        self._clock = clock
        self._counts_from = clock()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self._working.wait()
            await asyncio.sleep(self.pause())
            if self._working.is_set():
                self.run_once()

    def pause(self) -> float:
        """Seconds until the next look."""
        return min(max(0.0, self.due() - self._clock()), LOOK_SECONDS)

    def due(self) -> float:
        """When the agent is an orphan unless a heartbeat is answered before, by the agent's clock."""
        return max(self._counts_from, self._session.answered_at) + self._after

    def run_once(self) -> None:
        """Report the agent as orphaned if it is."""
        moment = self._clock()
        if moment >= self.due():
            self._counts_from = moment
            logger.error("no server was reachable for too long, stopping all work", seconds=self._after)
            self._orphaned()
