"""The agent's side of one stream as a state machine without I/O or clock.

    connecting ──hello()──► greeted ──Welcome──► open ──leave()──► leaving ──nothing held──► gone

`receive()` takes a message and returns what to do about it; `take()` gives the next message to send. Times are
seconds of a monotonic clock that also counts while the host sleeps: the freshness rule depends on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from distributor.agent.actions import (
    Action,
    IdentityContested,
    OutputRoom,
    RefusedCommand,
    ServerDrains,
    ServerStops,
    SessionOpened,
    StartCommand,
    StopCause,
    StopCommand,
)
from distributor.agent.gathering import Gathering
from distributor.agent.outbox import Outbox
from distributor.agent.record import CommandRecord, PendingStart, RecordedCommand
from distributor.agent.vitals import Silence, Vitals
from distributor.model.command import Reason
from distributor.model.control import CONTROL_ROOM, CONTROL_TYPES
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.v1 import command_pb2
from distributor.wire.limits import MAX_HELD, MAX_OUTPUT_CHUNK_BYTES

SILENT_INTERVALS: Final = 3
MAX_PROBLEMS: Final = 8
"""Problems in one heartbeat, set by the protocol."""
DEFAULT_HEARTBEAT_INTERVAL: Final = 10.0
DEFAULT_OUTPUT_LIMIT: Final = 262_144
OUTPUT_SUSPENDED: Final = "stale_lease"
"""Reason for refused output that may be accepted under another lease; after any other, the command has ended."""


class Phase(Enum):
    """The phase of the stream."""

    CONNECTING = auto()
    GREETED = auto()
    OPEN = auto()
    LEAVING = auto()
    GONE = auto()


@dataclass(frozen=True, slots=True)
class AgentProfile:
    """The agent's description of itself in each Hello."""

    agent_id: str
    instance_id: str
    capacity: int
    types: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    agent_version: str = ""
    inline_types: frozenset[str] = frozenset()
    """Types whose handlers never block and may start twice: they are called before their Received is sent."""
    denied: Mapping[str, Reason] = field(default_factory=dict)
    """Known types that the host does not allow, with the reason."""
    accepts_gzip: bool = False
    """Whether the server may send compressed messages."""
    journal_id: str = ""
    """Name of the agent's durable record, empty if it keeps none."""
    orphan_after: float = 0.0
    """Seconds without an answered heartbeat after which the agent stops all work; 0 for never."""


class SessionState:
    """The state of one stream. Only the record outlives it."""

    def __init__(self, profile: AgentProfile, record: CommandRecord) -> None:
        self.phase = Phase.CONNECTING
        self.accepting = True
        self.heartbeat_interval = DEFAULT_HEARTBEAT_INTERVAL
        self.output_limit = DEFAULT_OUTPUT_LIMIT
        self.max_result_bytes = DEFAULT_OUTPUT_LIMIT
        self._profile = profile
        self._record = record
        self._outbox = Outbox(record)
        self._gathering = Gathering()
        self._max_chunk_bytes = MAX_OUTPUT_CHUNK_BYTES
        self._start_within = 0.0
        self.confirmed = False
        """Whether the server has answered a heartbeat."""
        self._sequence = 0
        self._sent_at: dict[int, float] = {}
        self._heard_at = 0.0
        self._goodbye = ""
        self.moving = False
        """Whether the agent leaves this stream, and not its work, for another server."""
        self._unwritten_results: list[str] = []
        self.server_accepts_gzip = False
        """Whether the server accepts compressed messages."""
        self.answered_at = 0.0
        """When the latest answered heartbeat, or Hello, was sent; 0 if the server has answered none."""
        self._vitals = Vitals()

    @property
    def credit(self) -> int:
        """How many slots the commands may use that are accepted now."""
        if not self._takes_work:
            return 0
        room = self._profile.capacity - self._record.running - self._record.stuck
        return max(0, min(room, MAX_HELD - self._record.size))

    @property
    def _takes_work(self) -> bool:
        return self.accepting and self._record.journal_problem is None

    @property
    def _open(self) -> bool:
        return self.phase in (Phase.OPEN, Phase.LEAVING)

    # Messages to the server

    def hello(self, now: float) -> gateway.ConnectRequest:
        """The first message: the agent's profile, running commands and unacknowledged results."""
        self.phase = Phase.GREETED
        self._sent_at[0] = self._heard_at = now
        self._drop_unwritten()
        mine = [held for held in self._record.held if not held.disowned]
        hello = gateway.Hello(
            agent_id=self._profile.agent_id,
            instance_id=self._profile.instance_id,
            journal_id=self._profile.journal_id,
            labels=self._profile.labels,
            capacity=self._profile.capacity,
            types=self._profile.types,
            running=[_listed(held) for held in mine if held.running],
            unacknowledged=[_listed(held) for held in mine if not held.running],
            agent_version=self._profile.agent_version,
            accepts_gzip=self._profile.accepts_gzip,
        )
        if self._profile.orphan_after:
            hello.orphan_after.FromNanoseconds(int(self._profile.orphan_after * 1e9))
        return gateway.ConnectRequest(hello=hello)

    def _drop_unwritten(self) -> None:
        """Forget commands of an earlier stream that the journal does not have; the server delivers them again.

        A listed command counts as received, so a crash before its entry is written would make its outcome unknown.
        """
        for held in self._record.held:
            waits = held.pending_start is not None and not held.starting
            if waits and not self._record.is_written(held.command_id):
                self._record.drop(held.command_id)

    def heartbeat(self, now: float, vitals: Vitals | None = None) -> None:
        """Put a heartbeat into the next message, replacing one not sent yet under the same sequence number.

        Without `vitals` it repeats the latest but for the silences, which are no longer true.
        """
        silences, self._vitals = (vitals.silences, vitals) if vitals else ((), self._vitals)
        if self._outbox.heartbeat is None:
            self._sequence += 1
        oldest = now - self._start_within
        self._sent_at = {sequence: sent for sequence, sent in self._sent_at.items() if sent > oldest}
        self._sent_at[self._sequence] = now
        # Parts count in order: to the server, commands whose Received is not sent are still in transit.
        pending = map(self._record.get, set(self._outbox.pending_received))
        later = sum(held.slots for held in pending if held and held.running and not held.control)
        credit, running = self.credit + later if self._takes_work else 0, self._record.running - later
        beat = gateway.Heartbeat(sequence=self._sequence, credit=credit, running=running, draining=not self.accepting)
        problem = self._record.journal_problem
        if problem:
            beat.problems.add(code=problem.code, message=problem.message)
        self._outbox.heartbeat = _with_vitals(beat, self._vitals, silences)

    def stop_accepting(self, now: float) -> None:
        """Refuse further commands, and ask the server not to send any."""
        if self.accepting:
            self.accepting = False
            if self.phase is Phase.OPEN:
                self.heartbeat(now)

    def leave(self, reason: str, now: float) -> None:
        """Stop accepting; send Goodbye once nothing runs and every result is acknowledged."""
        self.stop_accepting(now)
        self._goodbye = self._goodbye or reason
        if self.phase is Phase.OPEN:
            self.phase = Phase.LEAVING

    def move(self) -> None:
        """Say Goodbye with the next message, whatever runs: the agent goes on at another server."""
        if self._open:
            self.moving = True
            self.accepting = False
            self._goodbye = self._goodbye or "moved to another server"

    def output_written(self, command_id: str) -> None:
        """Note that the command has new output. Before the Welcome this does nothing: `_reconcile` covers it."""
        if self._open:
            self._outbox.add_output(command_id)

    def extended(self, command_id: str) -> None:
        """Note that the command's time limit was extended. Before the Welcome this does nothing, too."""
        if self._open:
            self._outbox.add_extension(command_id)

    def could_not_stop(self, command_id: str, survivors: Sequence[gateway.SurvivingProcess]) -> None:
        """Report that a command runs on although a cancel should have ended it."""
        held = self._record.get(command_id)
        if held and self._open:
            self._outbox.cancel_reports.append(
                gateway.CancelReport(
                    command_id=command_id,
                    lease_id=held.lease_id,
                    finding=gateway.CANCEL_FINDING_COULD_NOT_STOP,
                    survivors=survivors,
                )
            )

    def finished(self, command_id: str, now: float) -> None:
        """Note that the command's result is in the record. Before the Welcome this does nothing, too."""
        if self._record.is_written(command_id):
            self._gathering.ready(command_id)
        else:
            # Output that waits is sent with it.
            self._gathering.expect(command_id, now)
            self._unwritten_results.append(command_id)
        if self._open:
            self._outbox.add_result(command_id)
            if not self._takes_work or self._record.stuck or not self._record.get(command_id):
                # The server counts each result as a free slot. That is wrong if the command was disowned (no result is
                # sent), if the agent accepts no more, or if a stuck handler occupies the slot.
                self.heartbeat(now)

    def room_changed(self, now: float) -> None:
        """Report that a stuck handler has ended and its slot is free."""
        if self._open:
            self.heartbeat(now)

    def sent(self, message: gateway.ConnectRequest, now: float) -> list[Action]:
        """Note that `message` is on the wire. Returns the handlers to call, of commands whose Received it contains."""
        if message.results:
            self._gathering.results_sent(now)
        actions: list[Action] = []
        for received in message.received:
            held = self._record.get(received.command_id)
            if held and held.pending_start and held.lease_id == received.lease_id:
                actions += self._start(held, held.pending_start, now)
        return actions

    def journal_written(self, now: float) -> list[Action]:
        """Note that the journal has what changed before. Returns the handlers to call, of commands whose start it has.

        Before the Welcome this does nothing: `_welcome` covers it.
        """
        for command_id in self._unwritten_results:
            if self._record.is_written(command_id):
                self._gathering.ready(command_id)
        self._unwritten_results = [one for one in self._unwritten_results if not self._record.is_written(one)]
        starts = self._record.take_starts() if self._open else []
        return [action for held in starts if held.pending_start for action in self._call(held, held.pending_start, now)]

    def journal_changed(self, now: float) -> list[Action]:
        """Report whether the journal takes commands. If it cannot be written, refuse those that have not started."""
        if not self._open:
            return []
        problem, refused = self._record.journal_problem, list[Action]()
        for held in self._record.held if problem and self._record.journal_failing else ():
            if held.pending_start and not held.control and problem:
                self._record.drop(held.command_id)
                refusal = _refused(gateway.REFUSAL_CODE_BUSY, problem.code, problem.message)
                refused.append(self._refuse(held.pending_start.assignment, refusal, now))
        names = {action.command_id for action in refused if isinstance(action, RefusedCommand)}
        self._outbox.received = [part for part in self._outbox.received if part.command_id not in names]
        self.heartbeat(now)
        return refused + self.journal_written(now)

    @property
    def unanswered_results(self) -> list[str]:
        """Commands whose results were sent on this stream and not acknowledged."""
        return list(self._outbox.sent_results)

    def _start(self, held: RecordedCommand, waiting: PendingStart, now: float) -> list[Action]:
        """Call the handler, once the journal has that it was called."""
        if not self._record.durable or (held.control and not self._record.starts_wait):
            return self._call(held, waiting, now)
        if not held.starting:
            self._record.begin_start(held)
        return []

    def _call(self, held: RecordedCommand, waiting: PendingStart, now: float) -> list[Action]:
        if now >= waiting.fresh_until:
            self._record.drop(held.command_id)
            return [self._refuse(waiting.assignment, self._stale(), now)]
        held.pending_start, held.starting = None, False
        self._gathering.expect(held.command_id, now)
        self._outbox.started.append(gateway.Started(command_id=held.command_id, lease_id=held.lease_id))
        return [StartCommand(waiting.assignment)]

    def gathers_until(self, now: float) -> float | None:
        """When to take the next message, if later than `now`: its parts wait for others. None to take it now."""
        if not self._outbox.can_gather:
            return None
        return self._gathering.until(now, self._record.running > 0)

    def take(self) -> gateway.ConnectRequest | None:
        """Take the next message to send, or None if nothing waits. Goodbye is the last."""
        if not self._open:
            return None
        message = self._outbox.take(self._max_chunk_bytes, self.output_limit)
        if self.moving:
            # What waits for another message is listed in the next Hello.
            self.phase = Phase.GONE
            message = message or gateway.ConnectRequest()
            message.goodbye.reason = self._goodbye
            return message
        if message is None and self.phase is Phase.LEAVING and self._record.empty:
            self.phase = Phase.GONE
            message = gateway.ConnectRequest(goodbye=gateway.Goodbye(reason=self._goodbye))
        return message

    def silent(self, now: float) -> bool:
        """Whether the server has not answered for three heartbeat intervals."""
        return now - self._heard_at >= SILENT_INTERVALS * self.heartbeat_interval

    # Messages from the server

    def receive(self, message: gateway.ConnectResponse, now: float) -> list[Action]:
        """Process one message, its parts in the order of their field numbers. Returns the actions, in order."""
        actions: list[Action] = []
        if message.HasField("welcome"):
            actions += self._welcome(message.welcome, now)
        if message.HasField("heartbeat_reply"):
            self._heard_at = now
            self.confirmed = True
            self.answered_at = max(self.answered_at, self._sent_at.get(message.heartbeat_reply.sequence, 0.0))
        if message.HasField("probe"):
            self.heartbeat(now)
            actions.append(IdentityContested(message.probe.peer))
        for cancel in message.cancels:
            actions += self._cancel(cancel)
        for ack in message.result_acks:
            self._result_acknowledged(ack)
        for output_ack in message.output_acks:
            actions += self._output_acknowledged(output_ack)
        # After the Goodbye nothing starts: the server gives out again what crossed it.
        for assignment in message.commands.assignments if self.phase is not Phase.GONE else ():
            actions += self._assigned(assignment, message.commands.after_heartbeat, now)
        if message.HasField("drain"):
            actions.append(ServerDrains(message.drain.reconnect_after.ToTimedelta().total_seconds()))
        if message.HasField("stop"):
            actions.append(ServerStops(message.stop.reason))
        return actions

    def _welcome(self, welcome: gateway.Welcome, now: float) -> list[Action]:
        if self.phase is not Phase.GREETED:
            return []
        self._heard_at = now
        self.answered_at = self._sent_at[0]
        self._apply_limits(welcome)
        self.server_accepts_gzip = welcome.accepts_gzip
        verdicts = {verdict.command_id: verdict for verdict in welcome.verdicts}
        actions: list[Action] = [SessionOpened(welcome.epoch, welcome.server_version)]
        for held in self._record.held:
            if not held.disowned:
                actions += self._reconcile(held, verdicts.get(held.command_id), now)
        self.phase = Phase.LEAVING if self._goodbye else Phase.OPEN
        # Commands are as fresh as the latest answered heartbeat, and a late Welcome leaves little of that. Also, the
        # server assumes until a heartbeat that all capacity is free.
        self.heartbeat(now)
        return actions + (self.journal_changed(now) if self._record.journal_failing else self.journal_written(now))

    def _apply_limits(self, welcome: gateway.Welcome) -> None:
        # Zero means that the server did not set the field.
        interval = welcome.heartbeat_interval.ToTimedelta().total_seconds()
        self.heartbeat_interval = interval or self.heartbeat_interval
        self._start_within = welcome.start_within.ToTimedelta().total_seconds()
        limits = welcome.limits
        self.output_limit = limits.max_unacknowledged_output_bytes or self.output_limit
        self.max_result_bytes = limits.max_result_bytes or self.max_result_bytes
        self._max_chunk_bytes = limits.max_output_chunk_bytes or self._max_chunk_bytes

    def _reconcile(self, held: RecordedCommand, verdict: gateway.HeldCommandVerdict | None, now: float) -> list[Action]:
        """Apply the server's verdict on one listed command; keep a command without a verdict."""
        if verdict and verdict.verdict in (gateway.VERDICT_STOP, gateway.VERDICT_STORED):
            if not held.running:
                # STORED replaces a lost acknowledgement; the command may then be redelivered.
                self._record.acknowledge(held.command_id, stored=verdict.verdict == gateway.VERDICT_STORED)
                return []
            if held.pending_start or held.unstarted:
                self._record.drop(held.command_id)
                return []
            held.disowned = True
            return [StopCommand(held.command_id, StopCause.DISOWNED)]
        if held.pending_start:
            # The server confirmed it after it had read the Hello.
            held.pending_start = held.pending_start._replace(fresh_until=self._sent_at[0] + self._start_within)
            return self._start(held, held.pending_start, now)
        if held.unstarted:
            return [self._give_back(held)]
        safe = held.output_base + verdict.output_offset if verdict else held.window.acknowledged
        if held.restored:
            held.window.advance(safe)
            if held.result:
                held.result.output_bytes = max(held.result.output_bytes, held.output_bytes)
        held.window.rewind(safe)
        self._resume(held)
        if not held.running:
            self._outbox.add_result(held.command_id)
        return [OutputRoom(held.command_id)]

    def _give_back(self, held: RecordedCommand) -> RefusedCommand:
        """Refuse a command that an earlier process of this agent received and did not start."""
        self._record.drop(held.command_id)
        refusal = _refused(
            gateway.REFUSAL_CODE_BUSY, "agent_restarted", "the agent ended before it started the command"
        )
        refusal.command_id, refusal.lease_id = held.command_id, held.lease_id
        self._outbox.refused.append(refusal)
        return RefusedCommand(held.command_id, 0, refusal.reason.code)

    def _resume(self, held: RecordedCommand) -> None:
        """Send what the server lacks under the lease that holds now."""
        if held.window.unsent:
            self._outbox.add_output(held.command_id)
        if held.extended_limit:
            self._outbox.add_extension(held.command_id)

    def _cancel(self, cancel: gateway.Cancel) -> list[Action]:
        command_id, held = cancel.command_id, self._record.get(cancel.command_id)
        if held and cancel.lease_id not in ("", held.lease_id):
            # Of an attempt that was given up: the command was delivered again meanwhile.
            held = None
        # With a result in transit, report "stopping": after "unknown", the server would drop the result.
        if held and (held.pending_start or held.unstarted):
            # Its handler has not been called, and will not be.
            self._record.drop(command_id)
            held = None
        known = held is not None and not held.disowned
        finding = gateway.CANCEL_FINDING_STOPPING if known else gateway.CANCEL_FINDING_UNKNOWN
        self._outbox.cancel_reports.append(
            gateway.CancelReport(command_id=command_id, finding=finding, lease_id=cancel.lease_id)
        )
        return [StopCommand(command_id, StopCause.CANCELLED)] if held and held.running else []

    def _result_acknowledged(self, ack: gateway.ResultAck) -> None:
        held = self._record.get(ack.command_id)
        if held and ack.lease_id not in ("", held.lease_id):
            # The command was delivered again meanwhile: its result under the new lease has an answer of its own.
            return
        self._outbox.sent_results.pop(ack.command_id, None)
        self._record.acknowledge(ack.command_id, stored=ack.verdict == gateway.RESULT_VERDICT_STORED)

    def _output_acknowledged(self, ack: gateway.OutputAck) -> list[Action]:
        held = self._record.get(ack.command_id)
        # Offsets under another lease count from another byte.
        if not held or ack.lease_id not in ("", held.lease_id):
            return []
        if ack.HasField("reason"):
            return self._output_refused(held, ack.reason.code)
        held.window.acknowledge(held.output_base + ack.offset)
        if held.window.unsent:
            self._outbox.add_output(held.command_id)
        return [OutputRoom(ack.command_id)]

    def _output_refused(self, held: RecordedCommand, code: str) -> list[Action]:
        if code == OUTPUT_SUSPENDED:
            # The attempt was given up. The command will be delivered again, unless it ends in the queue.
            held.window.suspend()
            return []
        held.window.discard()
        stop: list[Action] = [StopCommand(held.command_id, StopCause.CANCELLED)] if held.running else []
        return [*stop, OutputRoom(held.command_id)]

    def _assigned(self, assignment: gateway.Assignment, after_heartbeat: int, now: float) -> list[Action]:
        command_id, lease_id = assignment.command.command_id, assignment.lease_id
        if self._record.was_started(command_id):
            if self._answer_redelivery(command_id, lease_id):
                return []
            duplicate = _refused(
                gateway.REFUSAL_CODE_DUPLICATE, "duplicate", "this agent has started the command before"
            )
            return [self._refuse(assignment, duplicate, now)]
        refusal = self._refusal(assignment, after_heartbeat, now)
        if refusal:
            return [self._refuse(assignment, refusal, now)]
        command_type = assignment.command.type
        held = self._record.start(command_id, lease_id, command_type in CONTROL_TYPES, _slots(assignment.command))
        self._outbox.received.append(gateway.Received(command_id=command_id, lease_id=lease_id))
        waiting = held.pending_start = PendingStart(assignment, self._sent_at[after_heartbeat] + self._start_within)
        # Call inline handlers at once, so that a short command needs only one message.
        return self._start(held, waiting, now) if command_type in self._profile.inline_types else []

    def _refuse(self, assignment: gateway.Assignment, refusal: gateway.Refused, now: float) -> RefusedCommand:
        refusal.command_id, refusal.lease_id = assignment.command.command_id, assignment.lease_id
        self._outbox.refused.append(refusal)
        if refusal.code == gateway.REFUSAL_CODE_STALE:
            # Its answer makes the commands that follow fresh.
            self.heartbeat(now)
        return RefusedCommand(refusal.command_id, assignment.attempt, refusal.reason.code)

    def _answer_redelivery(self, command_id: str, lease_id: str) -> bool:
        """Answer a redelivered command under its new lease; return False if neither it nor its result is known."""
        held = self._record.get(command_id)
        if held is None:
            if not self._record.recall(command_id, lease_id):
                return False
        elif held.disowned:
            return False
        else:
            self._record.renew(held, lease_id)
            if held.pending_start:
                held.pending_start = held.pending_start._replace(
                    assignment=gateway.Assignment(
                        command=held.pending_start.assignment.command,
                        attempt=held.pending_start.assignment.attempt,
                        lease_id=lease_id,
                    )
                )
            self._resume(held)
        self._outbox.received.append(gateway.Received(command_id=command_id, lease_id=lease_id))
        if held is None or not held.pending_start:
            self._outbox.started.append(gateway.Started(command_id=command_id, lease_id=lease_id))
        if (held is None or not held.running) and not self._outbox.has_result(command_id):
            self._outbox.add_result(command_id)
        return True

    def _stale(self) -> gateway.Refused:
        return _refused(
            gateway.REFUSAL_CODE_STALE, "stale", f"the command was in transit for over {self._start_within:g} s"
        )

    def _refusal(self, assignment: gateway.Assignment, after_heartbeat: int, now: float) -> gateway.Refused | None:
        command = assignment.command
        denied = self._profile.denied.get(command.type)
        if denied:
            return _refused(gateway.REFUSAL_CODE_UNSUPPORTED, *denied)
        if command.type not in self._profile.types:
            return _refused(
                gateway.REFUSAL_CODE_UNSUPPORTED,
                "unsupported_type",
                f"this agent has no handler for {command.type}, it has {', '.join(self._profile.types)}",
            )
        sent_at = self._sent_at.get(after_heartbeat)
        if sent_at is None or now - sent_at >= self._start_within:
            return self._stale()
        if command.type in CONTROL_TYPES:
            # Control commands have slots of their own, also while the agent leaves.
            if self._record.control < CONTROL_ROOM and self._record.size < MAX_HELD:
                return None
            return _refused(gateway.REFUSAL_CODE_BUSY, "busy", f"the agent runs {CONTROL_ROOM} control commands")
        if not self.accepting:
            return _refused(gateway.REFUSAL_CODE_BUSY, "stopping", "the agent accepts no more commands")
        if self._record.journal_problem:
            return _refused(gateway.REFUSAL_CODE_BUSY, *self._record.journal_problem)
        if self.credit < _slots(command):
            taken = self._record.running + self._record.stuck
            return _refused(
                gateway.REFUSAL_CODE_BUSY,
                "busy",
                f"{taken} of the agent's {self._profile.capacity} slots are taken, the command needs {_slots(command)}",
            )
        return None


def _slots(command: command_pb2.Command) -> int:
    """How much capacity a command uses; unset means 1."""
    return max(1, command.slots)


def _refused(code: gateway.RefusalCode.ValueType, reason: str, message: str) -> gateway.Refused:
    refused = gateway.Refused(code=code)
    refused.reason.code, refused.reason.message = reason, message[:1024]
    return refused


def _with_vitals(beat: gateway.Heartbeat, vitals: Vitals, silences: Sequence[Silence]) -> gateway.Heartbeat:
    beat.load = vitals.load
    beat.handler_lag.FromNanoseconds(int(vitals.handler_lag * 1e9))
    for silence in silences[:MAX_HELD]:
        beat.progress.add(command_id=silence.command_id).silence.FromNanoseconds(int(silence.seconds * 1e9))
    for problem in vitals.problems[: MAX_PROBLEMS - len(beat.problems)]:
        beat.problems.add(code=problem.code, message=problem.message)
    return beat


def _listed(held: RecordedCommand) -> gateway.RunningCommand:
    return gateway.RunningCommand(command_id=held.command_id, lease_id=held.lease_id, output_offset=held.output_bytes)
