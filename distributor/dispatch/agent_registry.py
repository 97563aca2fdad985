"""The agents attached to this replica."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Protocol

from distributor.model.agent_report import LeaseRef
from distributor.model.agent_session import AgentSession
from distributor.model.delivery import Claim
from distributor.model.emergency_stop import EmergencyStop
from distributor.observability.metrics import Metrics


class CloseReason(StrEnum):
    """Why the server ends a stream."""

    SUPERSEDED = "superseded"
    SILENT = "silent"
    DRAINING = "draining"
    REVOKED = "revoked"
    EXPIRED = "expired"
    KEY_REMOVED = "key_removed"
    PERMISSIONS_CHANGED = "permissions_changed"


class AttachedAgent(Protocol):
    """An agent's open stream. Methods return at once; messages are sent when the stream can take them."""

    @property
    def session(self) -> AgentSession:
        """The agent's session: commands in flight and credit."""

    def deliver(self, claim: Claim, after_heartbeat: int) -> bool:
        """Send these commands, which were chosen after this heartbeat was answered.

        Return False if the stream is ending, so that the caller must release them.
        """

    def cancel(self, command_id: str, reason: str) -> None:
        """Cancel a command that the agent has, or as soon as it is sent."""

    def withdraw(self, command_id: str, lease_id: str, reason: str, stop: bool) -> None:
        """Do not send a command that the agent lost; with `stop`, cancel it if it was sent."""

    def acknowledge_output(self, lease: LeaseRef, offset: int) -> None:
        """Let the agent discard its output under this lease before `offset`, and thus send more."""

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels that count: those of its Hello, overruled by those of its credential."""

    @property
    def stop(self) -> EmergencyStop | None:
        """The emergency stop under which the agent is halted."""

    def halt(self, stop: EmergencyStop) -> list[LeaseRef]:
        """Halt the agent. Return the commands that were not sent and will not be, for the caller to release."""

    def resume(self) -> None:
        """End the halt."""

    def drain(self, reconnect_after_seconds: float) -> None:
        """Ask the agent to move to another server. Until it has, it is served as before."""

    async def probe(self, peer: str = "") -> bool:
        """Whether the agent answers at once. Another instance claims its id, from the address `peer` if known."""

    def end(self, close_reason: CloseReason) -> None:
        """End the stream."""


class AgentRegistry:
    """The attached agents by id. One event loop; each stream adds and removes itself."""

    def __init__(self, metrics: Metrics) -> None:
        self._agents: dict[str, AttachedAgent] = {}
        self._metrics = metrics
        self._left = asyncio.Event()
        self._returned: list[AttachedAgent] = []
        self._has_returned = asyncio.Event()

    def __len__(self) -> int:
        return len(self._agents)

    def __iter__(self) -> Iterator[AttachedAgent]:
        return iter(list(self._agents.values()))

    def get(self, agent_id: str) -> AttachedAgent | None:
        """The attached agent with this id."""
        return self._agents.get(agent_id)

    def add(self, agent: AttachedAgent) -> AttachedAgent | None:
        """Make this the agent's stream. Return the stream to end: the old one, or this one if a newer is attached."""
        agent_id = agent.session.agent_id
        present = self._agents.get(agent_id)
        if present is not None and present.session.epoch > agent.session.epoch:
            return agent
        self._agents[agent_id] = agent
        if agent.session.in_flight:
            self._returned.append(agent)
            self._has_returned.set()
        self._metrics.agents_connected(len(self._agents))
        return present

    def remove(self, agent: AttachedAgent) -> None:
        """Remove this stream, unless a newer one has replaced it."""
        agent_id = agent.session.agent_id
        if self._agents.get(agent_id) is agent:
            del self._agents[agent_id]
            self._left.set()
            self._metrics.agents_connected(len(self._agents))

    async def returned(self) -> list[AttachedAgent]:
        """Return the agents that were added with commands in flight since the last call, once there is one."""
        await self._has_returned.wait()
        self._has_returned.clear()
        returned, self._returned = self._returned, []
        return returned

    async def changed(self) -> None:
        """Return once an agent has left since the last call."""
        await self._left.wait()
        self._left.clear()
