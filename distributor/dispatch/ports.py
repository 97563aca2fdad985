"""Ports: what the use cases need of the world below them.

Times are milliseconds. The store is the only authority on the state of commands; every method below that changes one
is atomic per command.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from distributor.model.agent import AgentHello, AgentInfo, AgentPresence, Attached
from distributor.model.command import CommandResult, CommandState
from distributor.model.delivery import (
    Claim,
    ClaimRequest,
    Completion,
    CompletionOutcome,
    DueCommand,
    OutputPiece,
    Progress,
    Release,
    StoredChunk,
)
from distributor.model.event import EventBatch
from distributor.model.lifecycle import CommandStatus
from distributor.model.listing import CommandDetails, CommandQuery, Page, QueueDepth
from distributor.model.queueing import Enqueued, NewCommand


class CommandStore(Protocol):
    """What changes commands. Raises Unavailable when Valkey is away, ResourceExhausted when it is full."""

    async def enqueue(self, commands: Sequence[NewCommand]) -> list[Enqueued]:
        """Store commands, each or none of it, and answer each."""

    async def claim(self, requests: Sequence[ClaimRequest]) -> list[Claim]:
        """Give out queued commands, in order of rank, to the sessions that ask."""

    async def progress(self, items: Sequence[Progress]) -> list[bool]:
        """Note receipts; False where the lease no longer holds the command."""

    async def finish(self, completions: Sequence[Completion]) -> list[CompletionOutcome]:
        """Store results."""

    async def release(self, releases: Sequence[Release]) -> list[CommandStatus | None]:
        """Take commands back; the state each went to, None where the lease no longer holds it."""

    async def cancel(self, command_id: str, message: str) -> CommandState | None:
        """End a queued command, or ask for the end of an assigned one; None where it is unknown."""

    async def due(self, delays_ms: Sequence[int]) -> tuple[int | None, list[DueCommand]]:
        """Act on passed deadlines: ms until the next one (None: none is set), and what was done.

        `delays_ms` has the wait after each delivery attempt that was not acknowledged.
        """

    async def forget(self, after_agent_id: str) -> tuple[int, str]:
        """Sweep a part of the indexes: how much went, and the agent id to go on after ("" at the end)."""


class SessionStore(Protocol):
    """Sessions of agents. Raises as CommandStore does."""

    async def attach(self, hello: AgentHello) -> Attached:
        """Open a session. Raises AlreadyExists while another live instance has the id."""

    async def heartbeat(self, sessions: Sequence[tuple[str, int]]) -> list[bool]:
        """Renew sessions (agent id, epoch); False where a newer one exists."""

    async def detach(self, sessions: Sequence[tuple[str, int]]) -> list[bool]:
        """Note that agents are away; False where a newer session exists."""


class CommandReader(Protocol):
    """What can be asked without changing anything. Raises Unavailable when Valkey is away."""

    async def states(self, command_ids: Sequence[str]) -> list[CommandState | None]:
        """The state of each command; None where it is unknown."""

    async def details(self, command_id: str) -> CommandDetails | None:
        """All of one command in one read; None where it is unknown."""

    async def results(self, command_ids: Sequence[str]) -> list[CommandResult | None]:
        """The result of each command; None where there is none."""

    async def page(self, query: CommandQuery, cursor: str, size: int) -> Page:
        """One page of commands, newest first. Raises InvalidArgument for a cursor that is none of ours."""

    async def presences(self, agent_ids: Sequence[str]) -> list[AgentPresence]:
        """Whether each agent is connected."""

    async def agents(self, agent_ids: Sequence[str]) -> list[AgentInfo | None]:
        """What is known of each agent."""

    async def agent_ids(self, after: str, most: int) -> list[str]:
        """Ids of remembered agents, in order of spelling, after the given one."""

    async def depth(self) -> QueueDepth:
        """How many commands are in each state, and the age of the oldest queued one."""


class EventLog(Protocol):
    """The record of what happened, in order."""

    def tail(self, position: str) -> AsyncIterator[EventBatch]:
        """EventBatch after `position`, as they come; never ends by itself."""

    async def last_position(self) -> str:
        """The position of the newest event."""


class EventHistory(Protocol):
    """The part of the record that is still kept. Raises Unavailable when Valkey is away."""

    async def reaches(self, position: str) -> bool:
        """Whether all that happened after `position` is still there."""

    async def between(self, after: str, until: str) -> list[EventBatch]:
        """The first batches after `after`, up to and with `until`; empty once there are none."""


class OutputLog(Protocol):
    """The output of commands."""

    async def append(self, pieces: Sequence[OutputPiece]) -> list[int | None]:
        """Keep pieces: for each, the offset up to which its agent may forget, None where the lease is gone."""

    async def read(self, command_id: str, offset: int, most_bytes: int) -> list[StoredChunk]:
        """Chunks from the byte at `offset` on, about `most_bytes` of them. The first may begin later: a gap."""


class AttemptOutputLog(OutputLog, Protocol):
    """An output log that also knows where attempts begin."""

    async def base(self, command_id: str) -> int:
        """Where the output of the current attempt begins."""
