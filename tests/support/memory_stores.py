"""Small in-memory implementations of the ports of the use cases, true to their contracts."""

from __future__ import annotations

import asyncio
import functools
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Coroutine, Mapping, Sequence, Set
from typing import Any, Final, ParamSpec, TypeVar

from distributor.dispatch.agent_registry import AttachedAgent, CloseReason
from distributor.dispatch.ports import CommandStore, EventLog, OutputLog
from distributor.errors import DistributorError, ResourceExhausted, Unavailable
from distributor.model.agent import AgentPresence
from distributor.model.agent_report import LeaseRef
from distributor.model.agent_session import AgentSession
from distributor.model.command import CommandState, Reason, Receipts
from distributor.model.delivery import (
    CancelProgress,
    Claim,
    ClaimedCommand,
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
from distributor.model.event import (
    AgentChanged,
    CommandChanged,
    EventBatch,
    EventKind,
    OutputArrived,
)
from distributor.model.lifecycle import CommandStatus
from distributor.model.position import order_of
from distributor.model.queueing import Enqueued, NewCommand, QueueOutcome

P = ParamSpec("P")
T = TypeVar("T")

NOBODY: Final = AgentPresence(known=False, present=False, away_since_ms=0)


def at_once(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Awaitable[T]]:
    """Let a method that never waits take effect when it is called, as the ports say."""

    @functools.wraps(method)
    def call(*arguments: P.args, **named: P.kwargs) -> Awaitable[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        try:
            method(*arguments, **named).send(None)
        except StopIteration as stop:
            future.set_result(stop.value)
        except DistributorError as error:
            future.set_exception(error)
        return future

    return call


class MemoryStore:
    """The CommandStore port: commands by agent, in order of arrival. `away` makes every call fail as if Valkey were."""

    def __init__(self) -> None:
        self.away = False
        self.busy = False
        self.packed = False
        """Whether claims bring compressed commands; unpacked, they begin with "plain "."""
        self.failures = 0
        self.waiting: dict[str, deque[ClaimedCommand]] = defaultdict(deque)
        self.waiting_control: dict[str, deque[ClaimedCommand]] = defaultdict(deque)
        self.epochs: dict[str, int] = defaultdict(lambda: 1)
        self.claims: list[ClaimRequest] = []
        self.released: list[Release] = []
        self.progressed: list[Progress] = []
        self.extensions: list[Extension] = []
        self.cancel_progress: list[CancelProgress] = []
        self.completions: list[Completion] = []
        self.outcomes: dict[str, CompletionOutcome] = {}
        """What becomes of a completion, by command id; STORED where not said."""
        self.due_answers: deque[tuple[int | None, list[DueCommand]]] = deque()
        self.due_delays: list[list[int]] = []
        self.sweeps: deque[tuple[int, str]] = deque()
        self.swept_after: list[str] = []

    def add(self, agent_id: str, *command_ids: str, encoded: bytes = b"", control: bool = False) -> None:
        """Queue commands."""
        waiting = self.waiting_control if control else self.waiting
        waiting[agent_id].extend(ClaimedCommand(command_id, 1, encoded) for command_id in command_ids)

    @at_once
    async def enqueue(self, commands: Sequence[NewCommand]) -> list[Enqueued]:
        self._check()
        for command in commands:
            self.add(command.agent_id, command.command_id, encoded=command.encoded)
        return [Enqueued(QueueOutcome.QUEUED, command.command_id, 1_000, NOBODY) for command in commands]

    @at_once
    async def claim(self, requests: Sequence[ClaimRequest]) -> list[Claim]:
        self._check()
        self.claims += requests
        return [self._claim(request) for request in requests]

    def unpack(self, claims: Sequence[Claim]) -> Awaitable[list[Claim]] | None:
        return self.unpacked(claims) if self.packed else None

    async def unpacked(self, claims: Sequence[Claim]) -> list[Claim]:
        return [
            claim._replace(commands=[one._replace(encoded=b"plain " + one.encoded) for one in claim.commands])
            for claim in claims
        ]

    def _claim(self, request: ClaimRequest) -> Claim:
        superseded = request.epoch != self.epochs[request.agent_id]
        commands: list[ClaimedCommand] = []
        control = needed = 0
        if not superseded:
            commands = _taken(self.waiting_control[request.agent_id], request.max_control)
            control = len(commands)
            waiting, slots = self.waiting[request.agent_id], request.max_commands + request.extra_slots
            while waiting and len(commands) - control < request.max_commands and waiting[0].slots <= slots:
                slots -= waiting[0].slots
                commands.append(waiting.popleft())
            needed = waiting[0].slots if waiting and 0 < slots < waiting[0].slots else 0
        return Claim(request.agent_id, request.epoch, request.lease_id, 1_000, superseded, commands, control, needed)

    @at_once
    async def progress(self, items: Sequence[Progress]) -> list[bool]:
        self._check()
        self.progressed += items
        return [True] * len(items)

    @at_once
    async def extend(self, extensions: Sequence[Extension]) -> list[bool]:
        self._check()
        self.extensions += extensions
        return [True] * len(extensions)

    @at_once
    async def finish(self, completions: Sequence[Completion]) -> list[CompletionOutcome]:
        self._check()
        self.completions += completions
        return [
            self.outcomes.get(completion.progress.command_id, CompletionOutcome.STORED) for completion in completions
        ]

    @at_once
    async def release(self, releases: Sequence[Release]) -> list[CommandStatus | None]:
        self._check()
        self.released += releases
        return [CommandStatus.QUEUED] * len(releases)

    async def cancel(self, command_id: str, message: str) -> CommandState | None:
        self._check()
        return None

    async def cancel_stages(self, items: Sequence[CancelProgress]) -> list[bool]:
        self._check()
        self.cancel_progress += items
        return [True] * len(items)

    async def due(self, delays_ms: Sequence[int]) -> tuple[int | None, list[DueCommand]]:
        self._check()
        self.due_delays.append(list(delays_ms))
        return self.due_answers.popleft() if self.due_answers else (None, [])

    async def forget(self, after_agent_id: str) -> tuple[int, str]:
        self._check()
        self.swept_after.append(after_agent_id)
        return self.sweeps.popleft() if self.sweeps else (0, "")

    def _check(self) -> None:
        if self.away:
            self.failures += 1
            raise Unavailable("Valkey is away", reason="STORE_UNAVAILABLE")


def _taken(waiting: deque[ClaimedCommand], count: int) -> list[ClaimedCommand]:
    return [waiting.popleft() for _ in range(min(count, len(waiting)))]


class MemoryClaimer:
    """The Claimer port: keeps whom it was asked to claim for."""

    def __init__(self) -> None:
        self.claimed: list[tuple[set[str], set[str]]] = []

    def claim_now(self, agent_ids: Collection[str], control: Set[str] = frozenset()) -> None:
        self.claimed.append((set(agent_ids), set(control)))


class MemoryOutputLog:
    """The OutputLog port, of which nothing can be read; `gone` has commands that the lease no longer holds."""

    def __init__(self) -> None:
        self.pieces: list[OutputPiece] = []
        self.gone: set[str] = set()
        self.bases: dict[str, int] = {}
        self.full = False

    @at_once
    async def append(self, pieces: Sequence[OutputPiece]) -> list[int | OutputRefusal]:
        if self.full:
            raise ResourceExhausted("Valkey has no memory left", reason="STORE_FULL")
        self.pieces += pieces
        return [OutputRefusal.STALE if one.command_id in self.gone else one.offset + len(one.data) for one in pieces]

    async def base(self, command_id: str) -> int:
        return self.bases.get(command_id, 0)

    async def read(self, command_id: str, offset: int, most_bytes: int) -> list[OutputChunk]:
        return []


class MemoryEventLog:
    """The EventLog port: events that a test puts in. `fail()` breaks the tail as a lost connection would."""

    def __init__(self) -> None:
        self.newest = "7-0"
        self.positions_read: list[str] = []
        self._batch: asyncio.Queue[EventBatch | None] = asyncio.Queue()
        self.tailing = asyncio.Event()
        self.durable = asyncio.Event()
        self.durable.set()
        self.settling = 0
        """How often `settled` was called."""
        self.not_durable = 0
        """How many of its next calls fail."""

    def put(self, batch: EventBatch) -> None:
        self._batch.put_nowait(batch)

    def fail(self) -> None:
        self._batch.put_nowait(None)

    async def tail(self, position: str) -> AsyncGenerator[EventBatch, None]:
        self.positions_read.append(position)
        self.tailing.set()
        while True:
            batch = await self._batch.get()
            if batch is None:
                self.tailing.clear()
                raise Unavailable("Valkey is away")
            if batch.missed or order_of(batch.position) > order_of(position):
                yield batch

    async def last_position(self) -> str:
        return self.newest

    async def settled(self) -> None:
        self.settling += 1
        await self.durable.wait()
        if self.not_durable:
            self.not_durable -= 1
            raise Unavailable("no replica has it")


class MemoryAgent:
    """The AttachedAgent port: keeps what it was asked. `ending` makes it refuse what is delivered."""

    def __init__(self, agent_id: str = "agent123", epoch: int = 1, capacity: int = 5) -> None:
        self.session = AgentSession(agent_id, epoch, capacity, 0.0)
        self.ending = False
        self.delivered: list[Claim] = []
        self.cancelled: list[tuple[str, str]] = []
        self.withdrawn: list[tuple[str, str]] = []
        self.stopped: list[str] = []
        self.farewells: list[CloseReason] = []
        self.acknowledged: list[tuple[str, int]] = []
        """Output, as (command id, offset)."""
        self.drained: list[float] = []
        self.probed: list[str] = []
        self.answers_probes = True
        self.labels: Mapping[str, str] = {}
        self.stop: EmergencyStop | None = None
        self.unsent: list[LeaseRef] = []
        """What a halt withholds."""

    def deliver(self, claim: Claim, after_heartbeat: int) -> bool:
        if self.ending:
            return False
        for place, command in enumerate(claim.commands):
            self.session.claimed(command.command_id, claim.lease_id, command.attempt, 0.0, place < claim.control)
            if command.slots != 1:
                self.session.weigh(command.command_id, command.slots)
        self.delivered.append(claim)
        return True

    @property
    def command_ids(self) -> list[str]:
        return [command.command_id for claim in self.delivered for command in claim.commands]

    def cancel(self, command_id: str, reason: str) -> None:
        self.cancelled.append((command_id, reason))

    def withdraw(self, command_id: str, lease_id: str, reason: str, stop: bool) -> None:
        self.withdrawn.append((command_id, reason))
        if stop:
            self.stopped.append(command_id)

    def acknowledge_output(self, lease: LeaseRef, offset: int) -> None:
        self.acknowledged.append((lease.command_id, offset))

    def halt(self, stop: EmergencyStop) -> list[LeaseRef]:
        self.stop = stop
        withheld, self.unsent = self.unsent, []
        return withheld

    def resume(self) -> None:
        self.stop = None

    def drain(self, reconnect_after_seconds: float) -> None:
        self.drained.append(reconnect_after_seconds)

    async def probe(self, peer: str = "") -> bool:
        self.probed.append(peer)
        return self.answers_probes

    def end(self, close_reason: CloseReason) -> None:
        self.farewells.append(close_reason)


# What mypy holds them to.
_command_store: type[CommandStore] = MemoryStore
_output_log: type[OutputLog] = MemoryOutputLog
_event_log: type[EventLog] = MemoryEventLog
_attached_agent: type[AttachedAgent] = MemoryAgent


def state(
    command_id: str = "c1",
    status: CommandStatus = CommandStatus.ASSIGNED,
    *,
    agent_id: str = "agent123",
    attempt: int = 1,
    reason: str = "",
    revision: int | None = None,
) -> CommandState:
    """A state of a command. Without `revision`, later attempts are newer, and an ending is newest."""
    if revision is None:
        revision = 99 if status.terminal else 2 * attempt + 1
    return CommandState(
        command_id,
        agent_id,
        "PING",
        50,
        status,
        attempt,
        Receipts(1_000),
        reason=Reason(reason, reason),
        revision=revision,
    )


def changed(kind: EventKind, what: CommandState) -> CommandChanged:
    """The event that a command changed, with its whole state."""
    return CommandChanged(
        kind, what.command_id, what.agent_id, what.revision, what.status, what.attempt, what.reason, what
    )


def output_arrived(command_id: str = "c1", agent_id: str = "agent123") -> OutputArrived:
    """The event that a command printed something."""
    return OutputArrived(command_id, agent_id, 1)


def agent_changed(agent_id: str = "agent123", epoch: int = 1, connected: bool = True) -> AgentChanged:
    """The event that an agent attached or left."""
    return AgentChanged(agent_id, epoch, 1, connected)
