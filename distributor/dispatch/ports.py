"""What the use cases need of the world below them, and the values that travel through these ports.

Times are milliseconds; those that end in `_after_ms` count from the claim, None where not known. The store is the
only authority on the state of commands; every method below that changes one is atomic per command.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from distributor.model.command import CommandDraft, CommandResult, CommandState, Reason
from distributor.model.event import Event
from distributor.model.lifecycle import CommandStatus


class QueueOutcome(StrEnum):
    """What became of one command that was to be queued."""

    QUEUED = "queued"
    ALREADY_QUEUED = "already_queued"
    KEY_TAKEN = "key_taken"
    AGENT_OFFLINE = "agent_offline"
    QUEUE_FULL = "queue_full"
    UNSUPPORTED_TYPE = "unsupported_type"


class NewCommand(NamedTuple):
    """A command to store. `encoded` is what its agent will get; `digest` tells requests apart."""

    command_id: str
    draft: CommandDraft
    encoded: bytes
    digest: str = ""


class AgentPresence(NamedTuple):
    """Whether an agent was ever seen, is connected, and if not, since when (0: never seen)."""

    known: bool
    present: bool
    away_since_ms: int


class Queued(NamedTuple):
    """The answer for one command. With ALREADY_QUEUED, `command_id` is the earlier command's."""

    outcome: QueueOutcome
    command_id: str
    queued_ms: int
    agent: AgentPresence

    @property
    def already_queued(self) -> bool:
        """Whether an earlier request with the same key is what was found."""
        return self.outcome is QueueOutcome.ALREADY_QUEUED


class ClaimRequest(NamedTuple):
    """Give at most `most` commands to this session."""

    agent_id: str
    epoch: int
    most: int
    lease_id: str


class ClaimedCommand(NamedTuple):
    """One command given out."""

    command_id: str
    attempt: int
    encoded: bytes


class Claim(NamedTuple):
    """What one session got, all under one lease id. `superseded`: a newer session exists, it gets nothing."""

    agent_id: str
    epoch: int
    lease_id: str
    assigned_ms: int
    superseded: bool
    commands: list[ClaimedCommand]


class Progress(NamedTuple):
    """What an agent has done with a command so far."""

    command_id: str
    agent_id: str
    lease_id: str
    sent_after_ms: int | None = None
    acknowledged_after_ms: int | None = None
    started_after_ms: int | None = None


class Ending(NamedTuple):
    """How a command ended on its agent. `rerun_delay_ms` is None unless another run is worth it."""

    progress: Progress
    status: CommandStatus
    reason: Reason = Reason()
    exit_code: int | None = None
    data_json: str = ""
    output_bytes: int = 0
    rerun_delay_ms: int | None = None


class EndingOutcome(StrEnum):
    """What the store made of an ending."""

    STORED = "stored"
    RUN_AGAIN = "run_again"
    LATE = "late"
    UNKNOWN = "unknown"
    FOREIGN = "foreign"
    STALE = "stale"


class Release(NamedTuple):
    """A command that its agent did not start, to be given out again after a delay.

    `counts`: whether it was an attempt at delivery, of which there are only so many.
    """

    command_id: str
    agent_id: str
    lease_id: str
    delay_ms: int
    reason: Reason
    counts: bool = True


NOT_DELIVERED: Final = Reason("not_delivered", "the connection ended before the agent had the command")
"""Why a command is taken back that never reached its agent."""


class DueCommand(NamedTuple):
    """What a passed deadline did to a command: the state it is in now."""

    command_id: str
    agent_id: str
    status: CommandStatus


class HeldCommand(NamedTuple):
    """A command that an agent says it holds when it attaches: it runs it, or has its result."""

    command_id: str
    lease_id: str
    running: bool = True


class AdoptedCommand(NamedTuple):
    """A held command that is still the agent's. Receipts are ms after `assigned_ms`, None where not known."""

    command_id: str
    lease_id: str
    attempt: int
    assigned_ms: int
    sent_after_ms: int | None
    acknowledged_after_ms: int | None
    started_after_ms: int | None
    output_bytes: int
    cancel_requested: bool


class AgentHello(NamedTuple):
    """How an agent introduces itself."""

    agent_id: str
    instance_id: str
    capacity: int
    types: tuple[str, ...]
    labels: dict[str, str]
    version: str
    held: tuple[HeldCommand, ...]


class Attached(NamedTuple):
    """An open session. `adopted` has the held commands that go on; the others are no longer the agent's.

    `counted` has the ids of those whose result is stored already and that are to run again.
    """

    epoch: int
    now_ms: int
    adopted: dict[str, AdoptedCommand]
    counted: frozenset[str] = frozenset()


class OutputPiece(NamedTuple):
    """Bytes an agent read from a program. `offset` counts over both streams; `stream` is 1 stdout, 2 stderr."""

    command_id: str
    agent_id: str
    lease_id: str
    stream: int
    offset: int
    data: bytes


class StoredChunk(NamedTuple):
    """A piece of output as kept: `offset` counts over all attempts."""

    stream: int
    offset: int
    data: bytes
    received_ms: int


@dataclass(frozen=True, slots=True)
class CommandQuery:
    """What to list. Unset fields match everything; times bound the arrival, lower inclusive, upper exclusive."""

    agent_id: str = ""
    statuses: tuple[CommandStatus, ...] = ()
    type: str = ""
    queued_from_ms: int | None = None
    queued_until_ms: int | None = None


class Page(NamedTuple):
    """One page of a list. `cursor` is empty at the end."""

    states: list[CommandState]
    cursor: str


class AgentInfo(NamedTuple):
    """What is known of an agent."""

    agent_id: str
    epoch: int
    present: bool
    capacity: int
    running: int
    queued: int
    types: tuple[str, ...]
    labels: dict[str, str]
    version: str
    connected_ms: int
    last_seen_ms: int
    away_since_ms: int


class QueueDepth(NamedTuple):
    """How much there is: commands per state, and the age of the oldest queued one."""

    by_status: dict[CommandStatus, int]
    oldest_queued_age_ms: int


class CommandStore(Protocol):
    """What changes commands. Raises Unavailable when Valkey is away, ResourceExhausted when it is full."""

    async def enqueue(self, commands: Sequence[NewCommand]) -> list[Queued]:
        """Store commands, each or none of it, and answer each."""

    async def claim(self, requests: Sequence[ClaimRequest]) -> list[Claim]:
        """Give out queued commands, in order of rank, to the sessions that ask."""

    async def progress(self, items: Sequence[Progress]) -> list[bool]:
        """Note receipts; False where the lease no longer holds the command."""

    async def finish(self, endings: Sequence[Ending]) -> list[EndingOutcome]:
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

    async def encoded(self, command_id: str) -> bytes | None:
        """The command as stored; None once it is no longer kept."""

    async def output_bytes(self, command_id: str) -> int:
        """Bytes of output received so far."""

    async def results(self, command_ids: Sequence[str]) -> list[CommandResult | None]:
        """The result of each command; None where there is none."""

    async def page(self, query: CommandQuery, cursor: str, size: int) -> Page:
        """One page of commands, newest first. Raises InvalidArgument for a cursor that is none of ours."""

    async def presence(self, agent_id: str) -> AgentPresence:
        """Whether an agent is connected."""

    async def agents(self, agent_ids: Sequence[str]) -> list[AgentInfo | None]:
        """What is known of each agent."""

    async def agent_ids(self, after: str, most: int) -> list[str]:
        """Ids of remembered agents, in order of spelling, after the given one."""

    async def depth(self) -> QueueDepth:
        """How many commands are in each state, and the age of the oldest queued one."""


class Fact(Protocol):
    """One event as stored. Most are of no interest to most readers, so decoding it is left to those who care."""

    @property
    def position(self) -> str:
        """Its place in the log: the millisecond by Valkey's clock, a dash, and a number within it."""

    @property
    def subject(self) -> str:
        """The id of the command or the agent it is about."""

    @property
    def kind(self) -> str:
        """One of EventKind."""

    @property
    def agent_id(self) -> str:
        """The agent it is about, or whose command."""

    def event(self) -> Event:
        """All of it."""


class Facts(NamedTuple):
    """What one change wrote: the replica that made it, and one fact for each subject."""

    position: str
    origin: str
    facts: Sequence[Fact]
    missed: bool = False
    """There were more before these, which are no longer kept."""


class EventLog(Protocol):
    """The record of what happened, in order."""

    def tail(self, position: str) -> AsyncIterator[Facts]:
        """Facts after `position`, as they come; never ends by itself."""

    async def last_position(self) -> str:
        """The position of the newest event."""


class EventHistory(Protocol):
    """The part of the record that is still kept. Raises Unavailable when Valkey is away."""

    async def reaches(self, position: str) -> bool:
        """Whether all that happened after `position` is still there."""

    async def between(self, after: str, until: str) -> list[Facts]:
        """The first facts after `after`, up to and with `until`; empty once there are none."""


class OutputLog(Protocol):
    """The output of commands."""

    async def append(self, pieces: Sequence[OutputPiece]) -> list[int | None]:
        """Keep pieces: for each, the offset up to which its agent may forget, None where the lease is gone."""

    async def read(self, command_id: str, offset: int, most_bytes: int) -> list[StoredChunk]:
        """Chunks from the byte at `offset` on, about `most_bytes` of them. The first may begin later: a gap."""
