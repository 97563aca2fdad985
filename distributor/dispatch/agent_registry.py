"""Which agents are attached to this replica."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from enum import StrEnum
from typing import Protocol

from distributor.model.agent_session import AgentSession
from distributor.model.delivery import Claim
from distributor.observability.metrics import Metrics


class CloseReason(StrEnum):
    """Why a stream is ended from our side."""

    SUPERSEDED = "superseded"
    SILENT = "silent"
    DRAINING = "draining"


class AttachedAgent(Protocol):
    """An agent's open stream. Its methods return at once; what they ask for is sent when the stream can take it."""

    @property
    def session(self) -> AgentSession:
        """What this agent has and may be given."""

    def deliver(self, claim: Claim) -> bool:
        """Send these commands; False where the stream is ending, so that they must be released."""

    def cancel(self, command_id: str, reason: str) -> None:
        """Ask the agent to stop a command that it has, or else as soon as it was given it."""

    def withdraw(self, command_id: str, lease_id: str, reason: str, stop: bool) -> None:
        """A command was taken away from the agent: do not send it any more; with `stop`, stop it if it was sent."""

    def acknowledge_output(self, command_id: str, offset: int) -> None:
        """Let the agent forget its output before `offset`, and so send more."""

    def drain(self, reconnect_after_seconds: float) -> None:
        """Give it nothing more and ask it to reconnect."""

    def end(self, close_reason: CloseReason) -> None:
        """End the stream."""


class AgentRegistry:
    """The attached agents by id. One event loop, one owner; the streams add and remove themselves."""

    def __init__(self, metrics: Metrics) -> None:
        self._agents: dict[str, AttachedAgent] = {}
        self._metrics = metrics
        self._left = asyncio.Event()

    def __len__(self) -> int:
        return len(self._agents)

    def __iter__(self) -> Iterator[AttachedAgent]:
        return iter(list(self._agents.values()))

    def get(self, agent_id: str) -> AttachedAgent | None:
        """The attached agent of this id."""
        return self._agents.get(agent_id)

    def add(self, agent: AttachedAgent) -> AttachedAgent | None:
        """Make this the agent's stream; returns the one that must end, which is this one where a newer is here."""
        agent_id = agent.session.agent_id
        present = self._agents.get(agent_id)
        if present is not None and present.session.epoch > agent.session.epoch:
            return agent
        self._agents[agent_id] = agent
        self._metrics.agents_connected(len(self._agents))
        return present

    def remove(self, agent: AttachedAgent) -> None:
        """Forget this stream, unless another has taken its place."""
        agent_id = agent.session.agent_id
        if self._agents.get(agent_id) is agent:
            del self._agents[agent_id]
            self._left.set()
            self._metrics.agents_connected(len(self._agents))

    async def changed(self) -> None:
        """Return once an agent has left since the last call."""
        await self._left.wait()
        self._left.clear()
