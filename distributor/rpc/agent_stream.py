"""Reads and writes one agent stream. The session decides, this module acts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import grpc

from distributor.dispatch.agent_registry import CloseReason
from distributor.dispatch.agent_reports import AgentReports
from distributor.dispatch.ignored_reports import log_ignored, log_rejected
from distributor.dispatch.refusals import draining, superseded
from distributor.dispatch.revocations import Lapse
from distributor.dispatch.session_renewals import SessionRenewals
from distributor.errors import Aborted, DistributorError, InvalidArgument
from distributor.model.agent_report import Answers, LeaseRef, OutputAnswer, Refusal, RefusalKind, Report
from distributor.model.agent_session import MAX_ITEMS_PER_MESSAGE, AgentSession
from distributor.model.command import Reason
from distributor.model.delivery import Claim
from distributor.model.emergency_stop import EmergencyStop
from distributor.model.halt import HaltReport
from distributor.model.protocol_violation import ProtocolViolation
from distributor.observability.logging import get_logger
from distributor.rpc.agent_messages import halt_report, report, signs_of, vitals_of
from distributor.rpc.agent_outbox import AgentOutbox
from distributor.rpc.enrolment_messages import (
    CERTIFICATE_INTERVAL_MS,
    RenewCertificate,
    asked_too_soon,
    no_certificate,
)
from distributor.rpc.malformed import Malformed
from distributor.rpc.status import to_grpc
from distributor.rpc.unpacking import unpacked
from distributor.tasks import LARGE_BYTES, off_loop
from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1.enrolment_pb2 import CertificateRequest
from distributor.wire.at_rest_packer import STORED_PLAIN
from distributor.wire.message_packer import PLAIN, MessagePacker

logger = get_logger()

ACK_DELAY_SECONDS = 0.05
"""How long acknowledgements of results wait for another message. An agent only holds a result a little longer."""
LAST_WRITE_SECONDS = 1.0
PROBE_SECONDS = 0.7
"""How long an agent has to answer a probe: a connection may be half open."""
PROBE_LOOK_SECONDS = 0.02
MAX_WAITING_ACKS = 200
UNREADABLE = Reason("unreadable_command", "the stored command is unreadable")

Context = grpc.aio.ServicerContext[Any, Any]
"""Broader than the messages: a read may also return EOF or a Malformed."""


def monotonic_ms() -> float:
    """Current time on the clock that sessions use."""
    return time.monotonic() * 1000


class AgentStream:
    """Implements AttachedAgent on a gRPC stream.

    One reader: the handler, in `read()`. One writer at a time: a task that exists only while there is something to
    send, so idle agents have no task. A pending read or write is never cancelled while the stream continues. To end the
    stream, the server sends the final status, which also ends the pending read.

    Reading pauses while more than 200 acknowledgements wait: an agent that sends a lot but reads nothing is no longer
    read, and is disconnected as silent.
    """

    __slots__ = (
        "_acks_due",
        "_certificate_asked_at",
        "_context",
        "_debugging",
        "_ending",
        "_handler",
        "_last_write_seconds",
        "_outbox",
        "_packer",
        "_renewals",
        "_reports",
        "_writer",
        "_written",
        "accepts_gzip",
        "at_rest",
        "knows_halts",
        "labels",
        "last_checkpoint",
        "on_halted",
        "renew_certificate",
        "session",
        "stop",
        "told_checkpoint",
    )

    def __init__(
        self,
        context: Context,
        session: AgentSession,
        reports: AgentReports,
        renewals: SessionRenewals,
        last_write_seconds: float = LAST_WRITE_SECONDS,
        packer: MessagePacker = PLAIN,
    ) -> None:
        """`last_write_seconds` bounds the final writes when the stream ends."""
        self._last_write_seconds = last_write_seconds
        self.session = session
        self._context = context
        self._reports = reports
        self._renewals = renewals
        self.at_rest = STORED_PLAIN
        """Compresses results and output as they are to be stored."""
        self.accepts_gzip = False
        """Whether the agent accepts compressed messages."""
        self.labels: Mapping[str, str] = {}
        """The labels that count."""
        self.last_checkpoint: Callable[[], str] = str
        """Returns the last checkpoint of the audit trail, "" if there is none."""
        self.told_checkpoint = ""
        """The one that the agent has."""
        self.knows_halts = False
        """Whether the agent knows Halt and Resume."""
        self.stop: EmergencyStop | None = None
        """The emergency stop under which the agent is halted."""
        self.on_halted: Callable[[AgentStream, HaltReport], None] = _ignored
        """Receives what the agent says of its halt."""
        self.renew_certificate: RenewCertificate = no_certificate
        """Answers certificate requests."""
        self._certificate_asked_at = -math.inf
        self._packer = packer
        self._outbox = AgentOutbox()
        self._writer: asyncio.Task[None] | None = None
        self._written: asyncio.Event | None = None
        """Set by the next write; exists only while the reader waits for it."""
        self._ending: asyncio.Task[None] | None = None
        self._acks_due: asyncio.TimerHandle | None = None
        self._handler: asyncio.Task[Any] | None = None
        # Asked once: asking a logger is not free, and the level does not change.
        self._debugging = logger.is_enabled_for(logging.DEBUG)

    # The AttachedAgent port

    def deliver(self, claim: Claim, after_heartbeat: int) -> bool:
        """Send these commands. Return False if the stream began to end during the claim."""
        if self.session.ending:
            return False
        if not claim.commands:
            return True
        if self.stop is not None and len(claim.commands) > claim.control:
            # Claimed before the stop was in force. They go back to the queue.
            return False
        now = monotonic_ms()
        for place, command in enumerate(claim.commands):
            control = place < claim.control
            reason = self.session.earlier_cancel(command.command_id)
            if reason is not None:
                # A cancelled attempt is never repeated, so this one was assigned before the cancel and is meant too.
                self._outbox.cancel_early(command.command_id, reason)
            self.session.claimed(command.command_id, claim.lease_id, command.attempt, now, control, after_heartbeat)
            if command.slots != 1:
                self.session.weigh(command.command_id, command.slots)
        for command_id, early in self._outbox.deliver(claim, after_heartbeat):
            self.session.cancelling(command_id, early)
        self._send()
        return True

    def cancel(self, command_id: str, reason: str) -> None:
        """Cancel a command that the agent has, or as soon as it is sent.

        Leases given up are cancelled, too. The attempt that is cancelled may still be on its way from the store.
        """
        lease_id = self.session.cancelling(command_id, reason)
        leases = list(self.session.given_up.get(command_id, ()))
        if lease_id is not None:
            leases.append(lease_id)
        for one in leases:
            self._outbox.cancel(command_id, one, reason)
        if lease_id is None:
            self._outbox.cancel_early(command_id, reason)
        if leases:
            self._send()

    def withdraw(self, command_id: str, lease_id: str, reason: str, stop: bool) -> None:
        """Do not send a command that the agent lost; with `stop`, cancel it if it was sent."""
        self._outbox.withdraw(command_id, lease_id, reason if stop else None)
        if not stop:
            # Even if it was not sent: only the agent's word settles what the store takes for given up.
            self.session.gave_up(command_id, lease_id)
        self._send()

    def acknowledge_output(self, lease: LeaseRef, offset: int) -> None:
        """Let the agent discard its output under this lease before `offset`, and thus send more."""
        self.session.output_acknowledged(*lease, offset)
        self._outbox.answer(Answers(outputs=[OutputAnswer(lease, offset)]))
        self._send()

    def halt(self, stop: EmergencyStop) -> list[LeaseRef]:
        """Halt the agent. Return the commands that were not sent and will not be, for the caller to release.

        From now on, no command but a control command is sent. Those written before are read before the Halt.
        """
        self.stop = stop
        withheld = []
        for command_id, item in list(self.session.in_flight.items()):
            if item.control or item.sent is not None or self._outbox.withdraw(command_id, item.lease_id, None):
                continue
            self.session.lost(command_id, item.attempt)
            withheld.append(LeaseRef(command_id, item.lease_id))
        if self.knows_halts:
            halt = self._outbox.control().halt
            halt.stop_id, halt.reason = stop.stop_id, stop.reason
            self._outbox.control().ClearField("resume")
            self._send()
        return withheld

    def resume(self) -> None:
        """End the halt."""
        stop, self.stop = self.stop, None
        if stop is not None and self.knows_halts:
            self.resume_from(stop.stop_id)

    def resume_from(self, stop_id: str) -> None:
        """End a halt that the agent remembers."""
        self._outbox.control().resume.stop_id = stop_id
        self._outbox.control().ClearField("halt")
        self._send()

    def drain(self, reconnect_after_seconds: float) -> None:
        """Ask the agent to move to another server. Until it has, it is served as before."""
        self._outbox.control().drain.reconnect_after.FromMilliseconds(round(reconnect_after_seconds * 1000))
        self._send()

    async def probe(self, peer: str = "") -> bool:
        """Whether the agent answers at once. Another instance claims its id, from the address `peer` if known."""
        logger.warning("another instance claims an agent's id", agent_id=self.session.agent_id, peer=peer)
        asked_at = monotonic_ms()
        self._outbox.control().probe.peer = peer
        self._send()
        until = asyncio.get_running_loop().time() + PROBE_SECONDS
        while self.session.heartbeat_received_at < asked_at and self._ending is None:
            if asyncio.get_running_loop().time() >= until:
                return False
            await asyncio.sleep(PROBE_LOOK_SECONDS)
        return self._ending is None

    def renewed(self, sequence: int) -> None:
        """Heartbeat `sequence` is stored: answer it."""
        reply = self._outbox.control().heartbeat_reply
        reply.sequence = sequence
        checkpoint = self.last_checkpoint()
        if checkpoint != self.told_checkpoint:
            reply.checkpoint = self.told_checkpoint = checkpoint
        self._send()

    def outdated(self) -> None:
        """A newer session of the agent exists."""
        self.end(CloseReason.SUPERSEDED)

    def end(self, close_reason: CloseReason) -> None:
        """End the stream with a status that gives the reason."""
        match close_reason:
            case CloseReason.SUPERSEDED:
                error: DistributorError = superseded()
            case CloseReason.SILENT:
                error = Aborted("no heartbeat came in time", reason="SILENT")
            case CloseReason.DRAINING:
                error = draining()
            case _:
                error = Lapse(close_reason.value).error()
        if self._ending is None:
            logger.info("ending the stream of an agent", agent_id=self.session.agent_id, why=close_reason.value)
            # Claim nothing more: commands that cannot be delivered would use up attempts.
            self.session.ending = True
            self._ending = asyncio.create_task(self._abort(error))

    # The handler

    def welcome(self, message: pb.Welcome) -> None:
        """Send the first message."""
        self._outbox.control().welcome.CopyFrom(message)
        self._send()

    async def read(self) -> bool:
        """Serve the agent until its stream ends; return True if it said Goodbye.

        Raises InvalidArgument for a protocol violation, Aborted if a newer session exists, and Unavailable if Valkey is
        away: the agent then reattaches and reports again.
        """
        self._handler = asyncio.current_task()
        try:
            return await self._read()
        except Exception:
            if self._ending is None:
                raise
            # The status of the end counts; gRPC would log a second one as a fault.
            await asyncio.wait([self._ending])
            return False

    async def _read(self) -> bool:
        while True:
            if self._outbox.waiting_acks > MAX_WAITING_ACKS:
                await self._room_for_answers()
            request = await self._context.read()
            if request is grpc.aio.EOF:
                return False
            if isinstance(request, Malformed):
                raise request.error
            if request.gzip:
                request = await unpacked(self._packer, request)
            now = monotonic_ms()
            try:
                await self._handle(request, now)
            except ProtocolViolation as error:
                raise InvalidArgument(str(error), field=error.field, reason="PROTOCOL_VIOLATION") from error
            if request.HasField("goodbye"):
                self.session.ending = True
                # The half-close follows. Ending the stream before it leaks native memory (grpc#43360).
                half_close = asyncio.ensure_future(self._context.read())
                half_close.add_done_callback(_consume_exception)
                await asyncio.wait([half_close], timeout=self._last_write_seconds)
                _log_after_goodbye(half_close, self.session.agent_id)
                return True

    async def close(self) -> list[tuple[str, str]]:
        """Write the remaining messages and stop; return commands never sent, as (command id, lease id).

        An agent that does not read has `last_write_seconds` for this.
        """
        self._renewals.forget(self)
        if self._acks_due is not None:
            self._send()
        unsent = self._outbox.unsent()
        tasks = {task for task in (self._writer, self._ending) if task is not None}
        if tasks:
            await asyncio.wait(tasks, timeout=self._last_write_seconds)
        if self._writer is not None:
            self._writer.cancel()
        return unsent

    async def _room_for_answers(self) -> None:
        while self._outbox.waiting_acks > MAX_WAITING_ACKS and self._writer is not None:
            self._written = asyncio.Event()
            await self._written.wait()
        self._written = None

    async def _handle(self, request: pb.ConnectRequest, now: float) -> None:
        session = self.session
        session.note_message(now)
        if request.HasField("hello"):
            raise ProtocolViolation("hello", "hello must be in the first message only")
        if request.HasField("heartbeat"):
            self._heartbeat(request.heartbeat, now)
            # Most heartbeats come alone and make no room for waiting commands.
            alone = len(request.ListFields()) == 1
            if alone and not session.takes_waiting:
                return
        if request.HasField("certificate_request"):
            self._answer_certificate_request(request.certificate_request, now)
        reported = await self._reported(request)
        if self._debugging:
            log_ignored(session, reported)
        answers = await self._reports.handle(session, reported, now)
        if request.HasField("halted"):
            # Behind the results: "nothing runs" must not be known before what ran has ended.
            self._halted(request.halted)
        if self._debugging:
            log_rejected(session, answers)
        if answers.results or answers.outputs:
            self._outbox.answer(answers)
            if answers.outputs or self._outbox.waiting_acks >= MAX_ITEMS_PER_MESSAGE:
                self._send()
            else:
                self._send_soon()

    async def _reported(self, request: pb.ConnectRequest) -> Report:
        size = request.ByteSize() if request.results or self.at_rest.enabled else 0
        if size > LARGE_BYTES:
            return await off_loop(size, report, request, self.session.agent_id, self.at_rest)
        return report(request, self.session.agent_id, self.at_rest)

    def _halted(self, halted: pb.Halted) -> None:
        stop = self.stop
        if stop is not None and stop.stop_id == halted.stop_id:
            self.on_halted(self, halt_report(halted, stop.since_ms))

    def _heartbeat(self, heartbeat: pb.Heartbeat, now: float) -> None:
        self.session.heartbeat(heartbeat.sequence, heartbeat.credit, heartbeat.running, now)
        signs = signs_of(heartbeat, self.session, now) if heartbeat.progress else None
        self._renewals.renew(self, heartbeat.sequence, vitals_of(heartbeat), signs)

    def _answer_certificate_request(self, request: CertificateRequest, now: float) -> None:
        soon = now - self._certificate_asked_at < CERTIFICATE_INTERVAL_MS
        self._certificate_asked_at = now
        reply = asked_too_soon() if soon else self.renew_certificate(request.request)
        self._outbox.control().certificate.CopyFrom(reply)
        self._send()

    # Writing

    def _send(self) -> None:
        if self._acks_due is not None:
            self._acks_due.cancel()
            self._acks_due = None
        if self._writer is None and self._ending is None:
            self._writer = asyncio.create_task(self._write())

    def _send_soon(self) -> None:
        """Send with the next message, which usually brings more commands, or after a moment."""
        if self._acks_due is None:
            self._acks_due = asyncio.get_running_loop().call_later(ACK_DELAY_SECONDS, self._send)

    async def _write(self) -> None:
        try:
            while self._ending is None and self._outbox.waiting:
                message, sent, unreadable = self._outbox.take()
                if unreadable:
                    await self._give_up(unreadable)
                if message is not None:
                    cancels = [LeaseRef(one.command_id, one.lease_id) for one in message.cancels]
                    if sent and self.accepts_gzip:
                        message = await self._packer.pack(message, len(sent))
                    await self._context.write(message)
                    if sent:
                        self.session.sent(sent, monotonic_ms())
                    if cancels:
                        self._reports.cancels_written(self.session, cancels)
                    if self._written is not None:
                        self._written.set()
        except (grpc.aio.BaseError, asyncio.InvalidStateError) as error:
            # The stream broke. The reader notices too, and the deadlines cover commands already sent.
            logger.debug("cannot write to the agent", error=str(error), agent_id=self.session.agent_id)
        finally:
            self._writer = None
            if self._written is not None:
                self._written.set()

    async def _give_up(self, unreadable: list[tuple[str, str]]) -> None:
        """Fail commands that cannot be decoded."""
        command_ids = [command_id for command_id, _ in unreadable]
        logger.warning("commands cannot be read", agent_id=self.session.agent_id, command_ids=command_ids)
        refusals = [Refusal(LeaseRef(*one), RefusalKind.UNSUPPORTED, UNREADABLE) for one in unreadable]
        try:
            await self._reports.handle(self.session, Report(refusals=refusals), monotonic_ms())
        except DistributorError as error:
            # The ack deadline then handles them.
            logger.warning("cannot fail unreadable commands", error=str(error), agent_id=self.session.agent_id)

    async def _abort(self, error: DistributorError) -> None:
        if self._writer is not None:
            await asyncio.wait([self._writer], timeout=self._last_write_seconds)
        # Behind a stuck write, the status arrives only if the agent ever reads again. Do not wait for that.
        delay = self._last_write_seconds if self._writer is None else 0.0
        cancel_timer = asyncio.get_running_loop().call_later(delay, self._cancel_handler)
        code, message, metadata = to_grpc(error)
        with contextlib.suppress(grpc.aio.AbortError, grpc.aio.BaseError):
            await self._context.abort(code, message, metadata)
        cancel_timer.cancel()

    def _cancel_handler(self) -> None:
        if self._handler is not None:
            self._handler.cancel()


def _ignored(stream: AgentStream, report: HaltReport) -> None:
    pass


def _consume_exception(read: asyncio.Future[Any]) -> None:
    """Consume the exception so that asyncio does not warn."""
    if not read.cancelled():
        read.exception()


def _log_after_goodbye(read: asyncio.Future[Any], agent_id: str) -> None:
    """Log a message that came where the half-close was due."""
    if read.done() and read.exception() is None and isinstance(read.result(), pb.ConnectRequest):
        parts = [field.name for field, _ in read.result().ListFields()]
        logger.debug("message after goodbye ignored", agent_id=agent_id, parts=parts)
