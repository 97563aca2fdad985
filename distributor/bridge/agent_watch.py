"""Tells dashboards how agents are: soon after something happened to one, and every few seconds.

What an agent runs changes with each of its commands, so an agent is read again rather than told of event by event,
and at most a few times a second. Silence makes no event at all: that is what the regular look is for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Final

from distributor.bridge import messages
from distributor.bridge.dashboard import Dashboard
from distributor.bridge.documents import Document
from distributor.bridge.store_view import StoreView
from distributor.bridge.subscriptions import Subscriptions
from distributor.errors import DistributorError
from distributor.observability.outage import Outage

AFTER_AN_EVENT_SECONDS: Final = 0.02
BETWEEN_SECONDS: Final = 0.2
SWEEP_SECONDS: Final = 5.0
TOLD_BEFORE_YIELDING: Final = 50
SEEN_IN_A_MESSAGE: Final = 5_000
"""Agents in one `agents:seen`: below 1 MiB even with ids of 128 characters."""


class AgentWatch:
    """One loop of each bridge. Reading agents and telling of them happens under `lock`, so nothing old comes later."""

    def __init__(self, view: StoreView, subscriptions: Subscriptions[Dashboard]) -> None:
        self._view = view
        self.subscriptions = subscriptions
        self.lock = asyncio.Lock()
        self._due: dict[str, float] = {}
        self._told: dict[str, Document] = {}
        self._told_at: dict[str, float] = {}
        self._noted = asyncio.Event()
        self._outage = Outage("read agents")

    def note(self, agent_id: str) -> None:
        """Something happened to an agent, or to a command of it."""
        if agent_id in self._due or not self.subscriptions.of_agent(agent_id):
            return
        now = asyncio.get_running_loop().time()
        self._due[agent_id] = max(now + AFTER_AN_EVENT_SECONDS, self._told_at.get(agent_id, 0.0) + BETWEEN_SECONDS)
        self._noted.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        loop = asyncio.get_running_loop()
        sweep_at = loop.time() + SWEEP_SECONDS
        while True:
            await self._wait_until(min([sweep_at, *self._due.values()]))
            try:
                if loop.time() >= sweep_at:
                    sweep_at = loop.time() + SWEEP_SECONDS
                    await self.sweep()
                else:
                    await self.run_once(loop.time())
            except DistributorError as error:
                self._outage.failed(error)
            else:
                self._outage.over()

    async def run_once(self, now: float) -> None:
        """Read the agents whose time has come, and tell of those that changed."""
        agent_ids = [agent_id for agent_id, due in self._due.items() if due <= now]
        for agent_id in agent_ids:
            del self._due[agent_id]
            self._told_at[agent_id] = now
        async with self.lock:
            await self._tell_changes(await self._view.agents(agent_ids))

    async def sweep(self) -> None:
        """Read every agent that somebody is told of; tell of those that changed, and which were heard of."""
        watched = self.subscriptions.agents if not self.subscriptions.of_all_agents else await self._view.agent_ids()
        async with self.lock:
            agents = await self._view.agents(sorted({*watched, *self.subscriptions.agents}))
            seen = {
                agent["agentId"]: agent["lastSeen"]
                for agent in agents
                if self._heard_of_only(self._told.get(agent["agentId"]), agent)
            }
            await self._tell_changes(agents)
        self._told = {agent["agentId"]: agent for agent in agents}
        self._told_at.clear()
        if seen:
            self._tell_seen(seen)

    async def shown(self) -> list[Document]:
        """The agents as a snapshot shows them. Called with the lock held, which is kept until the snapshot is sent."""
        agents = await self._view.shown_agents()
        self._forget_what_differs(agents)
        return agents

    async def tell_now(self, dashboard: Dashboard, agent_ids: Sequence[str]) -> None:
        """Tell one dashboard how these agents are."""
        async with self.lock:
            agents = await self._view.agents(agent_ids)
            self._forget_what_differs(agents)
            for agent in agents:
                dashboard.tell_agent(agent["agentId"], messages.agent_status(agent, _now_ms()))

    def _forget_what_differs(self, agents: Iterable[Document]) -> None:
        """Who was told something older than a newcomer is told anew at the next look; nobody is left with the older."""
        for agent in agents:
            if _apart_from_proof(self._told.get(agent["agentId"])) != _apart_from_proof(agent):
                self._told.pop(agent["agentId"], None)

    async def _tell_changes(self, agents: Iterable[Document]) -> None:
        changed = [
            agent for agent in agents if _apart_from_proof(self._told.get(agent["agentId"])) != _apart_from_proof(agent)
        ]
        for count, agent in enumerate(changed, start=1):
            self._told[agent["agentId"]] = agent
            text = messages.agent_status(agent, _now_ms())
            for dashboard in list(self.subscriptions.of_agent(agent["agentId"])):
                dashboard.tell_agent(agent["agentId"], text)
            if count % TOLD_BEFORE_YIELDING == 0:
                await asyncio.sleep(0)

    def _tell_seen(self, seen: dict[str, int]) -> None:
        everyone = list(seen.items())
        for start in range(0, len(everyone), SEEN_IN_A_MESSAGE):
            to_all = messages.agents_seen(dict(everyone[start : start + SEEN_IN_A_MESSAGE]))
            for dashboard in self.subscriptions.of_all_agents:
                dashboard.tell_agent(f"* {start}", to_all)
        named: dict[Dashboard, dict[str, int]] = {}
        for agent_id, last_seen in seen.items():
            for dashboard in self.subscriptions.of_agent(agent_id) - self.subscriptions.of_all_agents:
                named.setdefault(dashboard, {})[agent_id] = last_seen
        for dashboard, some in named.items():
            dashboard.tell_agent("*", messages.agents_seen(some))

    async def _wait_until(self, when: float) -> None:
        """Return then, or once something was noted."""
        self._noted.clear()
        try:
            async with asyncio.timeout_at(when):
                await self._noted.wait()
        except TimeoutError:
            pass

    @staticmethod
    def _heard_of_only(told: Document | None, agent: Document) -> bool:
        return (
            told is not None
            and told["lastSeen"] != agent["lastSeen"]
            and _apart_from_proof(told) == _apart_from_proof(agent)
        )


def _apart_from_proof(agent: Document | None) -> Document | None:
    return {**agent, "lastSeen": 0} if agent is not None else None


def _now_ms() -> int:
    return int(time.time() * 1000)
