"""Checks periodically whether the agents that run the followed commands are connected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, NoReturn

from distributor.cli.sender.screen import Screen
from distributor.client import CommandClient
from distributor.errors import DistributorError
from distributor.wire.documents import time_text

CHECK_SECONDS: Final = 5.0


class PresenceMonitor:
    """Reports when an agent goes away and when it is back, which the watch of a running command does not.

    `busy` returns the agents that run a command.
    """

    def __init__(self, client: CommandClient, screen: Screen, busy: Callable[[], Iterable[str]]) -> None:
        self._client = client
        self._screen = screen
        self._busy = busy
        self._away: set[str] = set()

    async def run(self) -> NoReturn:
        """Check every `CHECK_SECONDS`, forever."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            await self.run_once()

    def report_away(self, agent_id: str, since_ms: int) -> None:
        """Report that an agent is away, unless already reported."""
        if agent_id not in self._away:
            self._away.add(agent_id)
            since = time_text(since_ms)
            self._screen.message(f"agent {agent_id} has been away since {since}; its commands may still be running")

    async def run_once(self) -> None:
        """Check each agent once."""
        for agent_id in sorted(set(self._busy())):
            try:
                agent = await self._client.agent(agent_id)
            except DistributorError:
                # The watch reports an unreachable server.
                continue
            if agent.away_since_ms:
                self.report_away(agent_id, agent.away_since_ms)
            elif agent_id in self._away:
                self._away.remove(agent_id)
                self._screen.message(f"agent {agent_id} is back")
