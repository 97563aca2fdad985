"""Ports: the interfaces that the use cases require.

Times are milliseconds. The store is the sole authority on command states; every method that changes one is atomic
per command. Methods that return an awaitable take their place among all changes when they are called, not when the
result is awaited.

`attach`, `cancel` and `due` are sent at once, and may overtake such calls while these gather. That is harmless, as each
call names what it is about, and the store compares:

- claim, heartbeat, detach: the epoch. After a newer `attach` they change nothing.
- progress, extend, append, release: the lease. Once `attach` or `due` has requeued or ended the attempt, they change
  nothing. If `attach` has kept the attempt, they count under the same lease as before.
- finish: the lease. The outcome of a requeued attempt counts until a later one has started; after an end it is stored
  as late.
- `cancel` only marks an assigned command: reports on it still count. A release ends it as cancelled in either order,
  unless its agent may run an earlier attempt.
- enqueue: no caller knows the id of a command before its reply.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping, Sequence
from typing import NamedTuple, Protocol

from distributor.identity.audit_chain import ChainExtension
from distributor.identity.audit_head import Authenticated
from distributor.identity.audit_verification import NumberedRow
from distributor.model.agent import AgentHello, AgentInfo, AgentPresence, Attached, Renewal
from distributor.model.command import CommandResult, CommandState
from distributor.model.delivery import (
    CancelProgress,
    Claim,
    ClaimRequest,
    Completion,
    CompletionOutcome,
    DueCommand,
    Extension,
    OutputChunk,
    OutputPiece,
    OutputRefusal,
    Progress,
    Release,
)
from distributor.model.emergency_stop import EmergencyStop
from distributor.model.enrolment import Enrolment, EnrolmentToken, NewEnrolmentToken
from distributor.model.event import EventBatch
from distributor.model.halt import HaltedSession, SessionHalt
from distributor.model.lifecycle import CommandStatus
from distributor.model.listing import CommandDetails, CommandFilter, Page, QueueDepth
from distributor.model.queueing import Enqueued, NewCommand
from distributor.model.repair import Repair
from distributor.model.revocation import Revocation, RevocationList, RevokedKind
from distributor.model.stop_scope import StopScope


class CommandStore(Protocol):
    """Changes commands. Raises Unavailable if Valkey is away, ResourceExhausted if it is full."""

    @property
    def busy(self) -> bool:
        """Whether so many commands are in progress that calls gather for milliseconds before they are sent."""

    def enqueue(self, commands: Sequence[NewCommand]) -> Awaitable[list[Enqueued]]:
        """Store commands, each completely or not at all, and answer each."""

    def claim(self, requests: Sequence[ClaimRequest]) -> Awaitable[list[Claim]]:
        """Assign queued commands, in order of rank, to the requesting sessions. Then `unpack` the claims."""

    def unpack(self, claims: Sequence[Claim]) -> Awaitable[list[Claim]] | None:
        """Decompress commands that are stored compressed; None if there are none, as in most claims."""

    def progress(self, items: Sequence[Progress]) -> Awaitable[list[bool]]:
        """Record receipts; False if the lease no longer holds the command."""

    def extend(self, extensions: Sequence[Extension]) -> Awaitable[list[bool]]:
        """Extend time limits; False if the lease does not hold the command, or its limit is as long already."""

    def finish(self, completions: Sequence[Completion]) -> Awaitable[list[CompletionOutcome]]:
        """Store results."""

    def release(self, releases: Sequence[Release]) -> Awaitable[list[CommandStatus | None]]:
        """Requeue commands; the new state of each, None if the lease no longer holds it."""

    async def cancel(self, command_id: str, message: str) -> CommandState | None:
        """End a queued command, or request the end of an assigned one; None if unknown."""

    async def cancel_stages(self, items: Sequence[CancelProgress]) -> list[bool]:
        """Record how far cancels have got; False if no cancel is wanted under the lease, or the stage cannot follow."""

    async def due(self, delays_ms: Sequence[int]) -> tuple[int | None, list[DueCommand]]:
        """Act on passed deadlines; return ms until the next one (None: none set), and what was done.

        `delays_ms` has the delay after each delivery attempt that was not acknowledged.
        """

    async def forget(self, after_agent_id: str) -> tuple[int, str]:
        """Sweep part of the indexes; return entries removed, and the agent id to continue after ("" at the end)."""


class SessionStore(Protocol):
    """Agent sessions. Raises the same errors as CommandStore."""

    async def attach(self, hello: AgentHello, unanswering_epoch: int | None = None) -> Attached:
        """Open a session.

        Raises AlreadyExists while another live instance uses the id, unless its session is `unanswering_epoch`; and
        Unavailable if the agent attaches too often.
        """

    def heartbeat(self, renewals: Sequence[Renewal]) -> Awaitable[list[bool]]:
        """Renew sessions; False if a newer one exists."""

    def detach(self, sessions: Sequence[tuple[str, int]]) -> Awaitable[list[bool]]:
        """Record that agents are away; False if a newer session exists."""


class StopStore(Protocol):
    """Emergency stops. Raises the same errors as CommandStore."""

    async def stop(self, stop_id: str, scope: StopScope, reason: str, stopped_by: str) -> EmergencyStop:
        """Put a stop in force; the present one if the id is known. Raises FailedPrecondition if there are too many."""

    async def resume(self, stop_ids: Sequence[str]) -> list[EmergencyStop]:
        """End stops; return those that were in force."""

    async def stops(self) -> list[EmergencyStop]:
        """The stops in force, oldest first."""

    async def stop_commands(self, agents: Sequence[tuple[str, str]]) -> list[int]:
        """Request the end of what agents were given, each (agent id, message), while a stop is in force for them.

        Return the number of cancels requested for each, -1 if no stop is in force for it.
        """

    def halted(self, reports: Sequence[SessionHalt]) -> Awaitable[list[bool]]:
        """Record what agents say of a halt; False if a newer session exists."""

    def sessions(self, scope: StopScope) -> AsyncIterator[list[HaltedSession]]:
        """The agents in scope, in parts. Agents that never connected only if the scope has their whole id."""

    async def sessions_of(self, agent_ids: Sequence[str]) -> list[HaltedSession]:
        """These agents."""


class CommandReader(Protocol):
    """Reads commands and agents. Raises Unavailable if Valkey is away."""

    async def states(self, command_ids: Sequence[str]) -> list[CommandState | None]:
        """The state of each command; None if unknown."""

    async def details(self, command_id: str) -> CommandDetails | None:
        """Everything about one command in one read; None if unknown."""

    async def results(self, command_ids: Sequence[str]) -> list[CommandResult | None]:
        """The result of each command; None if there is none."""

    async def queued_under(self, requests: Sequence[tuple[str, str]]) -> list[str | None]:
        """The id of the command queued for each (agent id, idempotency key); None if there is none, or not any more."""

    async def page(self, query: CommandFilter, cursor: str, size: int) -> Page[CommandState]:
        """One page of commands, newest first. Raises InvalidArgument for an invalid cursor."""

    async def listed(self, query: CommandFilter, cursor: str, size: int) -> tuple[list[tuple[CommandState, str]], str]:
        """The same page, with the cursor that continues after each command; and the cursor of the next page."""

    async def presences(self, agent_ids: Sequence[str]) -> list[AgentPresence]:
        """The presence of each agent."""

    async def labels(self, agent_ids: Sequence[str]) -> list[Mapping[str, str]]:
        """The labels of each agent; none for one that is unknown."""

    async def agents(self, agent_ids: Sequence[str]) -> list[AgentInfo | None]:
        """What is known about each agent; None if unknown."""

    async def agent_ids(self, after: str, limit: int) -> list[str]:
        """Ids of known agents after `after`, in order."""

    async def depth(self) -> QueueDepth:
        """How many commands are in each state, and the age of the oldest queued one."""


class EventLog(Protocol):
    """All events, in order."""

    def tail(self, position: str) -> AsyncGenerator[EventBatch, None]:
        """Yield batches after `position` as they are written; never ends."""

    async def last_position(self) -> str:
        """The position of the newest event."""

    async def settled(self) -> None:
        """Return once all that was yielded before the call is durable. Raises Unavailable if it may not be.

        Events of other replicas are yielded only then; own ones at once, as their replies are waited for anyway.
        """


class EventHistory(Protocol):
    """The retained events. Raises Unavailable if Valkey is away."""

    async def reaches(self, position: str) -> bool:
        """Whether all events after `position` are still retained."""

    async def between(self, after: str, until: str) -> list[EventBatch]:
        """The first batches after `after`, up to and including `until`; empty if there are none."""


class OutputLog(Protocol):
    """The output of commands."""

    def append(self, pieces: Sequence[OutputPiece]) -> Awaitable[list[int | OutputRefusal]]:
        """Store pieces; for each, the offset up to which its agent may discard output, or why it was not stored."""

    async def read(self, command_id: str, offset: int, max_bytes: int) -> list[OutputChunk]:
        """Chunks from byte `offset` on, about `max_bytes`. If the first begins later, there is a gap."""


class EnrolmentStore(Protocol):
    """Enrolment tokens, and how often agents have enrolled. Raises the same errors as CommandStore."""

    async def create(self, token: NewEnrolmentToken) -> int:
        """Store a token; return when it expires, in milliseconds since the epoch."""

    async def token(self, token_id: str, digest: str) -> EnrolmentToken:
        """Return a token. Raises PermissionDenied if there is none, or its secret has another digest."""

    async def enrol(self, enrolment: Enrolment) -> int:
        """Use the token once; return the new generation of the agent's certificates. Earlier ones are revoked.

        Raises PermissionDenied if the token does not serve any more, and AlreadyExists if another agent has the id.
        """


class RevocationStore(Protocol):
    """The list of revocations. Raises the same errors as CommandStore."""

    async def changed_since(self, version: int) -> RevocationList | None:
        """Return the list if it has another version."""

    async def revoke(self, kind: RevokedKind, subject: str, revoked_by: str, reason: str) -> Revocation:
        """Add or renew an entry. Deletes an enrolment token, or those for exactly the agent."""

    async def restore_agent(self, agent_id: str) -> None:
        """Remove an agent's entry. Raises NotFound, and FailedPrecondition if the agent has enrolled again since."""

    async def restore_service(self, name: str) -> None:
        """Remove a service's entry. Raises NotFound."""


class IndexChecker(Protocol):
    """Checks what is stored. Raises the same errors as CommandStore."""

    async def take_turn(self, rest_ms: int) -> bool:
        """Whether this replica is to sweep: no other does, or has ended a sweep within the last `rest_ms`."""

    def sweep(self) -> AsyncIterator[Sequence[Repair]]:
        """Check everything in bounded steps; yield the repairs of each."""


class AttemptOutputLog(OutputLog, Protocol):
    """An output log that also knows where attempts begin."""

    async def base(self, command_id: str) -> int:
        """The offset at which the current attempt's output begins."""


class AuditState(NamedTuple):
    """The head of the audit trail, None if there is none; the last checkpoint, "" if there is none."""

    now_ms: int
    head: Authenticated | None
    checkpoint: str


class AuditAppended(NamedTuple):
    """Whether an extension was stored, and the head as it is now. If not stored, the head is another's."""

    stored: bool
    now_ms: int
    head: Authenticated | None


class AuditLog(Protocol):
    """Stores the audit trail. Raises Unavailable if Valkey is away."""

    async def state(self) -> AuditState:
        """The head, the last checkpoint and the time."""

    async def append(self, extension: ChainExtension) -> AuditAppended:
        """Store an extension completely, if the head is the one that it extends."""

    async def rows(self, origin: str, segment: int, after: int, count: int) -> Sequence[NumberedRow]:
        """At most `count` rows of a segment after the one with this number, oldest first."""

    async def rows_before(self, origin: str, segment: int, before: int, count: int) -> Sequence[NumberedRow]:
        """At most `count` rows of a segment before the one with this number, newest first."""

    async def manifests(self, origin: str) -> Mapping[int, Authenticated]:
        """The manifests of all closed segments, by number."""

    async def swap_settings(self, digests: Mapping[str, str]) -> Mapping[str, str] | None:
        """Store a MAC for each setting, and return those of the server that started before; None if there are none."""
