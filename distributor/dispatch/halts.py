"""Applies emergency stops to the agents that are attached to this replica."""

from __future__ import annotations

import asyncio
from typing import Final

from distributor.dispatch.agent_registry import AgentRegistry, AttachedAgent
from distributor.dispatch.ports import CommandStore, StopStore
from distributor.dispatch.wakeups import Wakeups
from distributor.errors import DistributorError
from distributor.model.delivery import NOT_DELIVERED, Release
from distributor.model.emergency_stop import EmergencyStop, stop_for
from distributor.model.halt import HaltReport, SessionHalt
from distributor.observability.logging import get_logger
from distributor.observability.outage import WAIT_AFTER_FAILURE_SECONDS, Outage

logger = get_logger()

LOOK_SECONDS: Final = 5.0
"""How often to look for stops whose events were lost."""


class Halts:
    """One loop per replica: reads the stops in force, halts and resumes agents, and requests the end of commands.

    The store itself refuses to queue and to assign, so nothing here has to be in time for that. Each replica requests
    the end of the commands of every agent in scope, also of those attached to no replica: so it happens even if the
    replica that was called has ended. A repeated request changes nothing.
    """

    def __init__(
        self,
        store: StopStore,
        commands: CommandStore,
        registry: AgentRegistry,
        wakeups: Wakeups,
        changed: asyncio.Event,
    ) -> None:
        """`changed` is set when a stop may have begun or ended."""
        self._store = store
        self._commands = commands
        self._registry = registry
        self._wakeups = wakeups
        self._changed = changed
        self.wait_after_failure_seconds = WAIT_AFTER_FAILURE_SECONDS
        self._stops: list[EmergencyStop] = []
        self._requested: set[str] = set()
        """Stops for which the end of commands was requested."""
        self._returned: dict[str, str] = {}
        """Agents that attached during a stop with commands, and its message."""
        self._reports: dict[str, SessionHalt] = {}
        self._applying = asyncio.Lock()
        self._outage = Outage("apply emergency stops")

    async def run(self) -> None:
        """Apply stops until cancelled."""
        while True:
            try:
                await self.run_once()
                self._outage.recovered()
            except DistributorError as error:
                self._outage.failed(error)
                await asyncio.sleep(self.wait_after_failure_seconds)
                continue
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def run_once(self) -> None:
        """Store what agents have reported, and apply the stops in force."""
        async with self._applying:
            self._changed.clear()
            await self._store_reports()
            stops = await self._store.stops()
            if stops != self._stops:
                self._stops = stops
                await self._apply()
            await self._request_ends()

    def attached(self, agent: AttachedAgent) -> None:
        """Note an agent that is in the registry from now on, and was sent the stop that `attach` found.

        A stop that began between the two is already known here, or its event finds the agent in the registry.
        """
        session = agent.session
        known = stop_for(self._stops, session.agent_id, agent.labels)
        if agent.stop is not None and session.in_flight:
            self._returned[session.agent_id] = agent.stop.message
        if known is not None and (agent.stop is None or agent.stop.since_ms < known.since_ms):
            agent.halt(known)
        if agent.stop is not None:
            self._changed.set()

    def reported(self, agent: AttachedAgent, report: HaltReport) -> None:
        """Note what an agent says of its halt; it is stored soon."""
        agent_id, epoch = agent.session.agent_id, agent.session.epoch
        self._reports[agent_id] = SessionHalt(agent_id, epoch, report)
        self._changed.set()

    async def _store_reports(self) -> None:
        reports, self._reports = self._reports, {}
        try:
            if reports:
                await self._store.halted(list(reports.values()))
        except DistributorError:
            self._reports = reports | self._reports
            raise

    async def _apply(self) -> None:
        releases: list[Release] = []
        for agent in self._registry:
            agent_id = agent.session.agent_id
            stop = stop_for(self._stops, agent_id, agent.labels)
            if stop is not None and stop != agent.stop:
                releases += [
                    Release(command_id, agent_id, lease_id, 0, NOT_DELIVERED, counts=False, unsent=True)
                    for command_id, lease_id in agent.halt(stop)
                ]
            elif stop is None and agent.stop is not None:
                agent.resume()
                self._wakeups.wake(agent_id, control=True)
        if releases:
            # If this fails, their ack deadlines requeue them.
            await self._commands.release(releases)

    async def _request_ends(self) -> None:
        in_force = {stop.stop_id for stop in self._stops}
        for stop in self._stops:
            if stop.stop_id not in self._requested:
                cancelled = 0
                async for sessions in self._store.sessions(stop.scope):
                    agents = [(one.agent_id, stop.message) for one in sessions if one.assigned]
                    cancelled += sum(max(0, count) for count in await self._store.stop_commands(agents))
                logger.warning(
                    "emergency stop in force", stop_id=stop.stop_id, scope=str(stop.scope), cancelled=cancelled
                )
                self._requested.add(stop.stop_id)
        self._requested &= in_force
        returned, self._returned = self._returned, {}
        try:
            await self._store.stop_commands(list(returned.items()))
        except DistributorError:
            self._returned = returned | self._returned
            raise
