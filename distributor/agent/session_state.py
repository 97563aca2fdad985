"""The agent's side of one stream as a state machine without I/O or clock.

    connecting ──hello()──► greeted ──Welcome──► open ──leave()──► leaving ──nothing held──► gone

`receive()` takes a message and returns what to do about it; `take()` gives the next message to send. Times are
seconds of a monotonic clock that also counts while the host sleeps: the freshness rule depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from itertools import repeat

from distributor.agent.actions import (
    Action,
    CertificateAnswered,
    IdentityContested,
    RefusedCommand,
    SessionOpened,
)
from distributor.agent.admission import Admission, slots_of
from distributor.agent.agent_profile import AgentProfile
from distributor.agent.cancels import Cancels
from distributor.agent.gathering import Gathering
from distributor.agent.halting import Halting
from distributor.agent.heartbeats import Heartbeats
from distributor.agent.hello import hello_of
from distributor.agent.orders import Orders
from distributor.agent.outbox import Outbox
from distributor.agent.output_exchange import OutputExchange
from distributor.agent.reconciling import Reconciling
from distributor.agent.record import CommandRecord, PendingStart
from distributor.agent.refusals import refused, stale
from distributor.agent.result_trial import ResultTrial, only_heartbeat
from distributor.agent.starts import Starts
from distributor.agent.vetting import NO_VERDICTS, UNVETTED, Verdict
from distributor.agent.vitals import Vitals
from distributor.agent.withdrawals import Withdrawals
from distributor.model.control import CONTROL_TYPES
from distributor.v1 import agent_gateway_pb2 as gateway


class Phase(Enum):
    """The phase of the stream."""

    CONNECTING = auto()
    GREETED = auto()
    OPEN = auto()
    LEAVING = auto()
    GONE = auto()


class SessionState:
    """The state of one stream. Only the record outlives it."""

    def __init__(self, profile: AgentProfile, record: CommandRecord) -> None:
        self.phase = Phase.CONNECTING
        self.moving = False
        """Whether the agent leaves this stream, and not its work, for another server."""
        self.server_accepts_gzip = False
        """Whether the server accepts compressed messages."""
        self._profile = profile
        self._record = record
        self._goodbye = ""
        self._unwritten: list[str] = []
        self._certificate_request = b""
        self._outbox = Outbox(record)
        self._gathering = Gathering()
        self._heartbeats = Heartbeats()
        self._admission = Admission(profile, record, self._heartbeats)
        self._withdrawals = Withdrawals(record, self._outbox)
        self._starts = Starts(record, self._outbox, self._gathering, self._withdrawals, self._refuse_stale)
        self._output = OutputExchange(record, self._outbox)
        self._trial = ResultTrial(record, self._outbox, self._heartbeats)
        self._cancels = Cancels(record, self._outbox, self._withdrawals)
        self._halting = Halting(record, self._outbox, self._withdrawals, self._refuse)
        self._orders = Orders(record, self._heartbeats, self._output, self._halting, self.heartbeat)
        self._reconciling = Reconciling(
            record, self._outbox, self._heartbeats, self._withdrawals, self._starts, self._output
        )

    @property
    def credit(self) -> int:
        """How many slots the commands may use that are accepted now."""
        return self._admission.credit

    @property
    def heartbeat_interval(self) -> float:
        """Seconds between heartbeats."""
        return self._heartbeats.interval

    @property
    def confirmed(self) -> bool:
        """Whether the server has answered a heartbeat."""
        return self._heartbeats.confirmed

    @property
    def answered_at(self) -> float:
        """When the latest answered heartbeat, or Hello, was sent; 0 if the server has answered none."""
        return self._heartbeats.answered_at

    @property
    def output_limit(self) -> int:
        """Limit of unacknowledged output per command in bytes."""
        return self._output.output_limit

    @property
    def max_result_bytes(self) -> int:
        """Limit of a result in bytes of JSON."""
        return self._output.max_result_bytes

    @property
    def _open(self) -> bool:
        return self.phase in (Phase.OPEN, Phase.LEAVING)

    # Messages to the server

    def hello(self, now: float) -> gateway.ConnectRequest:
        """The first message: the agent's profile, running commands and unacknowledged results."""
        self.phase = Phase.GREETED
        self._heartbeats.hello_sent(now)
        return gateway.ConnectRequest(hello=hello_of(self._profile, self._record))

    def heartbeat(self, now: float, vitals: Vitals | None = None) -> None:
        """Put a heartbeat into the next message, replacing one not sent yet under the same sequence number.

        Without `vitals` it repeats the latest but for the silences, which are no longer true.
        """
        beat = self._heartbeats.next(now, replaces=self._outbox.heartbeat is not None)
        # Parts count in order: to the server, commands whose Received is not sent are still in transit.
        pending = map(self._record.get, set(self._outbox.pending_received))
        later = sum(held.slots for held in pending if held and held.running and not held.control)
        beat.credit = self.credit + later if self._admission.takes_work else 0
        beat.running = self._record.running - later
        beat.draining = not self._admission.accepting
        problem = self._record.journal_problem
        if problem:
            beat.problems.add(code=problem.code, message=problem.message)
        if self._record.halt.current:
            beat.problems.add(code="emergency_stop", message=self._record.halt.current.message)
        self._heartbeats.add_vitals(beat, vitals)
        self._outbox.heartbeat = beat

    def stop_accepting(self, now: float) -> None:
        """Refuse further commands, and ask the server not to send any."""
        if self._admission.accepting:
            self._admission.accepting = False
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
            self._admission.accepting = False
            self._goodbye = self._goodbye or "moved to another server"

    def output_written(self, command_id: str) -> None:
        """Note that the command has new output. Before the Welcome this does nothing: reconciling covers it."""
        if self._open:
            self._outbox.add_output(command_id)

    def extended(self, command_id: str) -> None:
        """Note that the command's time limit was extended. Before the Welcome this does nothing, too."""
        if self._open:
            self._outbox.add_extension(command_id)

    def could_not_stop(self, command_id: str, survivors: Sequence[gateway.SurvivingProcess]) -> None:
        """Report that a command runs on although a cancel should have ended it."""
        if self._open:
            self._cancels.could_not_stop(command_id, survivors)
        self._halting.could_not_stop(command_id, survivors)

    def finished(self, command_id: str, now: float) -> None:
        """Note that the command's result is in the record. Before the Welcome this does nothing, too."""
        if self._record.is_written(command_id):
            self._gathering.ready(command_id)
        else:
            # Output that waits is sent with it.
            self._gathering.expect(command_id, now)
            self._unwritten.append(command_id)
        self._halting.finished(command_id)
        if self._open:
            self._outbox.add_result(command_id)
            self._cancels.ended(command_id)
            if not self._admission.takes_work or self._record.stuck or not self._record.get(command_id):
                # The server counts each result as a free slot. That is wrong if the command was disowned (no result is
                # sent), if the agent accepts no more, or if a stuck handler occupies the slot.
                self.heartbeat(now)

    def request_certificate(self, request_pem: bytes) -> None:
        """Ask for a new certificate with the next message."""
        self._certificate_request = request_pem

    def room_changed(self, now: float) -> None:
        """Report that a stuck handler has ended and its slot is free."""
        if self._open:
            self.heartbeat(now)

    def sent(self, message: gateway.ConnectRequest, now: float) -> list[Action]:
        """Note that `message` is on the wire. Returns the handlers to call, of commands whose Received it contains."""
        if message.results:
            self._gathering.results_sent(now)
        elif self._record.suspects and not only_heartbeat(message):
            # Its answer shows that this was read.
            self.heartbeat(now)
        return [action for received in message.received for action in self._starts.received_sent(received, now)]

    def journal_written(self, now: float) -> list[Action]:
        """Note that the journal has what changed before. Returns the handlers to call, of commands whose start it has.

        Before the Welcome this does nothing: `_welcome` covers it.
        """
        for command_id in self._unwritten:
            if self._record.is_written(command_id):
                self._gathering.ready(command_id)
        self._unwritten = [one for one in self._unwritten if not self._record.is_written(one)]
        return self._starts.written(now) if self._open else []

    def journal_changed(self, now: float) -> list[Action]:
        """Report whether the journal takes commands. If it cannot be written, refuse those that have not started."""
        if not self._open:
            return []
        # Those whose start is written need nothing more of the journal.
        actions = self.journal_written(now)
        problem = self._record.journal_problem
        for held in self._record.held if problem and self._record.journal_failing else ():
            if held.pending_start and not held.control and problem:
                assignment = held.pending_start.assignment
                self._withdrawals.withdraw(held)
                refusal = refused(gateway.REFUSAL_CODE_BUSY, problem.code, problem.message)
                actions.append(self._refuse(assignment, refusal, now))
        self.heartbeat(now)
        # STOP may have waited behind those.
        return actions + self.journal_written(now)

    @property
    def unanswered_results(self) -> list[str]:
        """Commands whose results were sent on this stream and not acknowledged."""
        return list(self._outbox.sent_results)

    @property
    def lone_result(self) -> str:
        """The command whose result is to blame if the stream ended because of a message; empty if none."""
        return self._trial.lone_result

    def gathers_until(self, now: float) -> float | None:
        """When to take the next message, if later than `now`: its parts wait for others. None to take it now."""
        if not self._outbox.can_gather:
            return None
        return self._gathering.until(now, self._record.running > 0)

    def take(self) -> gateway.ConnectRequest | None:
        """Take the next message to send, or None if nothing waits. Goodbye is the last."""
        if not self._open:
            return None
        message = self._next()
        if self._certificate_request and not self.moving:
            message = message or gateway.ConnectRequest()
            message.certificate_request.request, self._certificate_request = self._certificate_request, b""
        if message is not None:
            self._withdrawals.sent(message, self._heartbeats.latest)
            self._trial.sent(message)
        if self.moving:
            # What waits for another message is listed in the next Hello.
            self.phase = Phase.GONE
            message = message or gateway.ConnectRequest()
            message.goodbye.reason = self._goodbye
            return message
        if message is None and self.phase is Phase.LEAVING and self._record.empty and not self._outbox.reports_wait:
            self.phase = Phase.GONE
            message = gateway.ConnectRequest(goodbye=gateway.Goodbye(reason=self._goodbye))
        return message

    def _remember(self, checkpoint: str) -> None:
        if checkpoint and self._record.checkpoints.remember(checkpoint):
            # Soon, and without haste.
            self._record.unwritten.on_change(False)

    def _next(self) -> gateway.ConnectRequest | None:
        if self._trial.on and not self.moving:
            return self._trial.take()
        return self._outbox.take(self._output.max_chunk_bytes, self._output.output_limit)

    def silent(self, now: float) -> bool:
        """Whether the server has not answered for three heartbeat intervals."""
        return self._heartbeats.silent(now)

    # Messages from the server

    def receive(
        self, message: gateway.ConnectResponse, now: float, vetted: Sequence[Verdict] = NO_VERDICTS
    ) -> list[Action]:
        """Process one message, its parts in the order of their field numbers. Returns the actions, in order.

        `vetted` has the verdict on each of its commands; empty if the host has no policy for commands.
        """
        actions: list[Action] = []
        if message.HasField("welcome"):
            actions += self._welcome(message.welcome, now)
        if message.HasField("heartbeat_reply"):
            self._heartbeats.answered(message.heartbeat_reply.sequence, now)
            self._withdrawals.answered(message.heartbeat_reply.sequence)
            self._remember(message.heartbeat_reply.checkpoint)
        if message.HasField("probe"):
            self.heartbeat(now)
            actions.append(IdentityContested(message.probe.peer))
        if message.HasField("certificate"):
            actions.append(CertificateAnswered(message.certificate))
        for cancel in message.cancels:
            actions += self._cancels.receive(cancel)
        self._results_acknowledged(message.result_acks, now)
        for output_ack in message.output_acks:
            actions += self._output.acknowledged(output_ack)
        # After the Goodbye nothing starts: the server gives out again what crossed it.
        assignments = message.commands.assignments if self.phase is not Phase.GONE else ()
        for assignment, verdict in zip(assignments, vetted or repeat(UNVETTED), strict=False):
            actions += self._assigned(assignment, verdict, message.commands.after_heartbeat, now)
        return actions + self._orders.receive(message, now)

    def _welcome(self, welcome: gateway.Welcome, now: float) -> list[Action]:
        if self.phase is not Phase.GREETED:
            return []
        self._heartbeats.welcomed(now)
        self.server_accepts_gzip = welcome.accepts_gzip
        # First: reconciling starts what waits, unless the agent is halted.
        self._orders.welcomed(welcome)
        overruled = sorted(set(welcome.overruled_labels) & self._profile.labels.keys())
        actions: list[Action] = [SessionOpened(welcome.epoch, welcome.server_version, tuple(overruled))]
        actions += self._reconciling.apply(welcome, now)
        actions += self._halting.apply(now)
        self.phase = Phase.LEAVING if self._goodbye else Phase.OPEN
        # Commands are as fresh as the latest answered heartbeat, and a late Welcome leaves little of that. Also, the
        # server assumes until a heartbeat that all capacity is free.
        self.heartbeat(now)
        return actions + (self.journal_changed(now) if self._record.journal_failing else self.journal_written(now))

    def _results_acknowledged(self, acks: Sequence[gateway.ResultAck], now: float) -> None:
        for ack in acks:
            self._result_acknowledged(ack)
        if acks and self._record.suspects:
            # The next one is sent once this is answered.
            self.heartbeat(now)

    def _result_acknowledged(self, ack: gateway.ResultAck) -> None:
        held = self._record.get(ack.command_id)
        if held and ack.lease_id not in ("", held.lease_id):
            # The command was delivered again meanwhile: its result under the new lease has an answer of its own.
            return
        self._outbox.sent_results.pop(ack.command_id, None)
        self._record.acknowledge(ack.command_id, stored=ack.verdict == gateway.RESULT_VERDICT_STORED)

    def _assigned(
        self, assignment: gateway.Assignment, vetted: Verdict, after_heartbeat: int, now: float
    ) -> list[Action]:
        command_id, lease_id = assignment.command.command_id, assignment.lease_id
        if self._record.was_started(command_id):
            if self._answer_redelivery(command_id, lease_id):
                return []
            duplicate = refused(
                gateway.REFUSAL_CODE_DUPLICATE, "duplicate", "this agent has started the command before"
            )
            return [self._refuse(assignment, duplicate, now)]
        fresh_until = self._heartbeats.fresh_until(after_heartbeat)
        refusal = self._admission.refusal(assignment.command, vetted, fresh_until, now)
        if refusal:
            return [self._refuse(assignment, refusal, now)]
        command_type = assignment.command.type
        held = self._record.start(command_id, lease_id, command_type in CONTROL_TYPES, slots_of(assignment.command))
        held.signature = vetted.signature
        self._outbox.received.append(gateway.Received(command_id=command_id, lease_id=lease_id))
        if not self._record.is_written(command_id):
            # What else is ready may travel with its Received.
            self._gathering.expect(command_id, now)
            self._unwritten.append(command_id)
        waiting = held.pending_start = PendingStart(assignment, fresh_until)
        # Call inline handlers at once, so that a short command needs only one message.
        return self._starts.begin(held, waiting, now) if command_type in self._profile.inline_types else []

    def _refuse_stale(self, assignment: gateway.Assignment, now: float) -> RefusedCommand:
        return self._refuse(assignment, stale(self._heartbeats.start_within), now)

    def _refuse(self, assignment: gateway.Assignment, refusal: gateway.Refused, now: float) -> RefusedCommand:
        refusal.command_id, refusal.lease_id = assignment.command.command_id, assignment.lease_id
        withdrawn = self._record.get(refusal.command_id)
        if withdrawn and withdrawn.unstarted:
            withdrawn.refusal = refusal
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
            self._output.resume(held)
        self._outbox.received.append(gateway.Received(command_id=command_id, lease_id=lease_id))
        if held is None or not held.pending_start:
            self._outbox.started.append(gateway.Started(command_id=command_id, lease_id=lease_id))
        if (held is None or not held.running) and not self._outbox.has_result(command_id):
            self._outbox.add_result(command_id)
        return True
