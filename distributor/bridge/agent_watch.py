"""Sends agent states to dashboards, shortly after an event and in a periodic sweep.

An agent's load changes with every command, so events only trigger a read of the agent, at most a few times a second.
Lost agents cause no event: the sweep detects them, along with their running commands.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from distributor.bridge import messages
from distributor.bridge.dashboard import Dashboard
from distributor.bridge.running_commands import RunningCommands
from distributor.bridge.store_view import StoreView, change_of
from distributor.bridge.subscriptions import Subscriptions
from distributor.errors import DistributorError
from distributor.identity.caller import Caller
from distributor.model.agent import AgentInfo
from distributor.observability.outage import Outage
from distributor.wire.documents import time_text

MESSAGES_PER_SLICE: Final = 50
"""Messages sent before yielding to other tasks."""
MAX_SEEN_PER_MESSAGE: Final = 5_000
"""Agents in one `agents:seen`: below 1 MiB even with ids of 128 characters."""


class AgentWatchTimes(NamedTuple):
    """Delays of agent reads, in seconds: after an event, between reads of one agent, and between sweeps."""

    after_event: float = 0.02
    between_reads: float = 0.2
    sweep: float = 5.0


TIMES: Final = AgentWatchTimes()


class AgentWatch:
    """The agent loop of a bridge. Reads and sends agents under `lock`, so states are never sent out of order."""

    def __init__(
        self, view: StoreView, subscriptions: Subscriptions[Dashboard], times: AgentWatchTimes = TIMES
    ) -> None:
        self._view = view
        self._times = times
        self.subscriptions = subscriptions
        self.running = RunningCommands()
        self.lock = asyncio.Lock()
        self._due: dict[str, float] = {}
        self._sent: dict[str, AgentInfo] = {}
        self._read_at: dict[str, float] = {}
        self._scheduled = asyncio.Event()
        self._outage = Outage("read agents")

    def schedule(self, agent_id: str) -> None:
        """Schedule a read of an agent after an event of it or its commands, if it has subscribers."""
        if agent_id in self._due or not self._is_watched(agent_id):
            return
        now = asyncio.get_running_loop().time()
        self._due[agent_id] = max(
            now + self._times.after_event, self._read_at.get(agent_id, 0.0) + self._times.between_reads
        )
        self._scheduled.set()

    def away_since(self, agent_id: str) -> int:
        """When an agent went offline, in ms, as last read; 0 if it is connected or has no subscribers."""
        agent = self._sent.get(agent_id)
        return agent.away_since_ms if agent is not None else 0

    async def run(self) -> None:
        """Watch until cancelled."""
        loop = asyncio.get_running_loop()
        sweep_at = loop.time() + self._times.sweep
        while True:
            await self._wait_until(min([sweep_at, *self._due.values()]))
            try:
                if loop.time() >= sweep_at:
                    sweep_at = loop.time() + self._times.sweep
                    await self.sweep()
                else:
                    await self.run_once(loop.time())
            except DistributorError as error:
                self._outage.failed(error)
            else:
                self._outage.recovered()

    async def run_once(self, now: float) -> None:
        """Read the agents due at `now` and send those that changed."""
        agent_ids = [agent_id for agent_id, due in self._due.items() if due <= now]
        for agent_id in agent_ids:
            del self._due[agent_id]
            self._read_at[agent_id] = now
        async with self.lock:
            await self._send_changes(await self._view.agents(agent_ids))

    async def sweep(self) -> None:
        """Read every watched agent; send the changed ones, and the last-seen times of the others."""
        self.running.prune(lambda state: bool(self.subscriptions.watchers_of_command(state.command_id, state.agent_id)))
        watched = self.subscriptions.agents if not self.subscriptions.of_all_agents else await self._view.agent_ids()
        async with self.lock:
            agents = await self._view.agents(sorted({*watched, *self.subscriptions.agents, *self.running.agents}))
            seen = {agent.agent_id: time_text(agent.last_seen_ms) for agent in agents if self._only_seen_changed(agent)}
            await self._send_changes(agents)
        self._sent = {agent.agent_id: agent for agent in agents}
        self._read_at.clear()
        if seen:
            self._send_seen(seen, {agent.agent_id: agent for agent in agents})

    async def snapshot(self, caller: Caller) -> list[AgentInfo]:
        """Read the agents of a snapshot for `caller`. The holder of `lock` keeps it until the snapshot is sent."""
        agents = await self._view.snapshot_agents(caller)
        self._invalidate_changed(agents)
        return agents

    async def send_current(self, dashboard: Dashboard, agent_ids: Sequence[str]) -> None:
        """Send one dashboard the current state of these agents."""
        async with self.lock:
            agents = await self._view.agents(agent_ids)
            self._invalidate_changed(agents)
            for agent in agents:
                if dashboard.caller.grants.permit_agent(agent.agent_id, agent.labels):
                    dashboard.send_agent(agent.agent_id, messages.agent_status(agent, _now_ms()))

    def _is_watched(self, agent_id: str) -> bool:
        return agent_id in self.running.agents or bool(self.subscriptions.watchers_of_agent(agent_id))

    def _invalidate_changed(self, agents: Iterable[AgentInfo]) -> None:
        """One dashboard has newer states than the others: make the next read send them to all."""
        for agent in agents:
            if self._differs(agent):
                self._sent.pop(agent.agent_id, None)

    async def _send_changes(self, agents: Iterable[AgentInfo]) -> None:
        count = 0
        for agent in agents:
            if self._differs(agent):
                self._sent[agent.agent_id] = agent
                text = messages.agent_status(agent, _now_ms())
                for dashboard in list(self.subscriptions.watchers_of_agent(agent.agent_id)):
                    if dashboard.caller.grants.permit_agent(agent.agent_id, agent.labels):
                        dashboard.send_agent(agent.agent_id, text)
                count += 1
            # No await between reading `outdated` and sending, so no newer state can come in between.
            count += self._send_outdated(agent)
            if count >= MESSAGES_PER_SLICE:
                count = 0
                await asyncio.sleep(0)

    def _send_outdated(self, agent: AgentInfo) -> int:
        """Send the running commands of an agent whose connection changed since they were last sent."""
        outdated = self.running.outdated(agent.agent_id, agent.away_since_ms)
        for state, _, read_until in outdated:
            self.running.note(state, agent.away_since_ms, read_until)
            change = change_of(state, None, agent_away_since_ms=agent.away_since_ms)._replace(read_until=read_until)
            for dashboard in list(self.subscriptions.watchers_of_command(state.command_id, state.agent_id)):
                permitted = dashboard.caller.grants.permit(agent.agent_id, agent.labels, state.type)
                if permitted and dashboard.takes(change):
                    dashboard.send_change(change)
        return len(outdated)

    def _send_seen(self, seen: dict[str, str], agents: Mapping[str, AgentInfo]) -> None:
        everyone = list(seen.items())
        of_all = {dashboard for dashboard in self.subscriptions.of_all_agents if dashboard.caller.grants.everything}
        for start in range(0, len(everyone), MAX_SEEN_PER_MESSAGE):
            to_all = messages.agents_seen(dict(everyone[start : start + MAX_SEEN_PER_MESSAGE]))
            for dashboard in of_all:
                dashboard.send_agent(f"* {start}", to_all)
        named: dict[Dashboard, dict[str, str]] = {}
        for agent_id, last_seen in seen.items():
            labels = agents[agent_id].labels
            for dashboard in self.subscriptions.watchers_of_agent(agent_id) - of_all:
                if dashboard.caller.grants.permit_agent(agent_id, labels):
                    named.setdefault(dashboard, {})[agent_id] = last_seen
        for dashboard, some in named.items():
            dashboard.send_agent("*", messages.agents_seen(some))

    async def _wait_until(self, when: float) -> None:
        """Return at `when`, or earlier if a read was scheduled."""
        self._scheduled.clear()
        try:
            async with asyncio.timeout_at(when):
                await self._scheduled.wait()
        except TimeoutError:
            pass

    def _differs(self, agent: AgentInfo) -> bool:
        """Whether it differs from the state sent last, ignoring the last-seen time."""
        sent = self._sent.get(agent.agent_id)
        return sent is None or sent._replace(last_seen_ms=agent.last_seen_ms) != agent

    def _only_seen_changed(self, agent: AgentInfo) -> bool:
        sent = self._sent.get(agent.agent_id)
        return sent is not None and sent.last_seen_ms != agent.last_seen_ms and not self._differs(agent)


def _now_ms() -> int:
    return int(time.time() * 1000)
