"""Looks now and then whether the agents that run what is followed are still there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, NoReturn

from distributor.cli.sender.screen import Screen
from distributor.client import CommandClient
from distributor.errors import DistributorError
from distributor.wire.documents import time_text

LOOK_SECONDS: Final = 5.0


class PresenceMonitor:
    """Says once when an agent has gone, and when it is back: of a command that runs, its watch tells neither.

    `busy` names the agents that run something.
    """

    def __init__(self, client: CommandClient, screen: Screen, busy: Callable[[], Iterable[str]]) -> None:
        self._client = client
        self._screen = screen
        self._busy = busy
        self._away: set[str] = set()

    async def run(self) -> NoReturn:
        """Look for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.run_once()

    def away(self, agent_id: str, since_ms: int) -> None:
        """Say that an agent is away, unless that was said."""
        if agent_id not in self._away:
            self._away.add(agent_id)
            since = time_text(since_ms)
            self._screen.message(f"agent {agent_id} has been away since {since}; what it runs may go on there")

    async def run_once(self) -> None:
        """Look at each agent once."""
        for agent_id in sorted(set(self._busy())):
            try:
                agent = await self._client.agent(agent_id)
            except DistributorError:
                # A server that is away is told of by the watch.
                continue
            if agent.away_since_ms:
                self.away(agent_id, agent.away_since_ms)
            elif agent_id in self._away:
                self._away.remove(agent_id)
                self._screen.message(f"agent {agent_id} is back")
