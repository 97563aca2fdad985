"""Compares what agents are believed to have with the store: periodically, and when an agent returns with commands.

Events report every change made without the agent. If some were missed, or Valkey lost data, this detects room that
was never freed, commands that no longer belong to their agent, and cancels that never reached it.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from distributor.dispatch.agent_registry import AgentRegistry, AttachedAgent
from distributor.dispatch.given_up import stop_given_up
from distributor.dispatch.ports import CommandReader
from distributor.dispatch.wakeups import Wakeups
from distributor.errors import DistributorError
from distributor.model.command import CommandState
from distributor.model.in_flight import InFlight
from distributor.model.lifecycle import CommandStatus
from distributor.observability.logging import get_logger

logger = get_logger()

RECONCILE_INTERVAL_SECONDS: Final = 30.0
MAX_COMMANDS_PER_READ: Final = 1_000
ENDED_UNSEEN: Final = "no longer this agent's"


class Reconciler:
    """Two loops per replica: all agents every 30 s and whenever `requested` is set, returning agents at once."""

    def __init__(
        self, reader: CommandReader, registry: AgentRegistry, wakeups: Wakeups, requested: asyncio.Event
    ) -> None:
        self._reader = reader
        self._registry = registry
        self._wakeups = wakeups
        self._requested = requested

    async def run(self) -> None:
        """Reconcile until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RECONCILE_INTERVAL_SECONDS):
                    await self._requested.wait()
            self._requested.clear()
            try:
                await self.run_once()
            except DistributorError as error:
                logger.debug("cannot reconcile commands in flight", error=str(error))

    async def run_returned(self) -> None:
        """Reconcile each agent that attaches with commands, until cancelled.

        Between the reply to `attach` and its entry in the registry, changes of its commands find no session here.
        """
        while True:
            for agent in await self._registry.returned():
                try:
                    await self._reconcile_agent(agent)
                except DistributorError as error:
                    logger.debug("cannot reconcile commands of a returned agent", error=str(error))

    async def run_once(self) -> int:
        """Reconcile everything in flight; return how many commands no longer belonged to their agent."""
        lost = 0
        for agent in self._registry:
            lost += await self._reconcile_agent(agent)
            if agent.session.given_up:
                await self._reconcile_given_up(agent)
        return lost

    async def _reconcile_agent(self, agent: AttachedAgent) -> int:
        lost = 0
        flight = list(agent.session.in_flight.items())
        for first in range(0, len(flight), MAX_COMMANDS_PER_READ):
            lost += await self._reconcile(agent, dict(flight[first : first + MAX_COMMANDS_PER_READ]))
        return lost

    async def _reconcile_given_up(self, agent: AttachedAgent) -> None:
        given_up = list(agent.session.given_up)
        for first in range(0, len(given_up), MAX_COMMANDS_PER_READ):
            command_ids = given_up[first : first + MAX_COMMANDS_PER_READ]
            for command_id, state in zip(command_ids, await self._reader.states(command_ids), strict=True):
                if state is None or state.status.terminal:
                    stop_given_up(agent, command_id, ENDED_UNSEEN)

    async def _reconcile(self, agent: AttachedAgent, flight: dict[str, InFlight]) -> int:
        lost = 0
        states = await self._reader.states(list(flight))
        for (command_id, item), state in zip(flight.items(), states, strict=True):
            # The stream continued during the read: leave later changes to the next round.
            if agent.session.in_flight.get(command_id) is not item:
                continue
            if state is None or not _holds(item, state):
                agent.session.lost(command_id, item.attempt)
                ended = state is None or state.status.terminal
                agent.withdraw(command_id, item.lease_id, ENDED_UNSEEN, stop=ended)
                self._wakeups.wake(agent.session.agent_id)
                lost += 1
            elif state.cancel_ms and item.cancel_reason is None:
                requested = state.reason.code == "cancel_requested"
                agent.cancel(command_id, state.reason.message if requested else "cancelled on request")
        if lost:
            logger.warning("commands no longer belonged to their agent", agent_id=agent.session.agent_id, commands=lost)
        return lost


def _holds(item: InFlight, state: CommandState) -> bool:
    return state.status is CommandStatus.ASSIGNED and state.attempt == item.attempt
