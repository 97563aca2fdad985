"""Serves one agent stream: reads it, and sends what is due. The session decides, this module acts."""

from __future__ import annotations

import asyncio
import logging
import math
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
from distributor.model.agent_report import Answers, LeaseRef, OutputAnswer, Report
from distributor.model.agent_session import MAX_ITEMS_PER_MESSAGE, AgentSession
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
from distributor.rpc.session_clock import monotonic_ms
from distributor.rpc.stream_writer import MAX_WAITING_ACKS, Context, StreamWriter
from distributor.rpc.unpacking import unpacked
from distributor.tasks import LARGE_BYTES, off_loop
from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1.enrolment_pb2 import CertificateRequest
from distributor.wire.at_rest_packer import STORED_PLAIN
from distributor.wire.message_packer import PLAIN, MessagePacker

logger = get_logger()

LAST_WRITE_SECONDS = 1.0
PROBE_SECONDS = 0.7
"""How long an agent has to answer a probe: a connection may be half open."""
PROBE_LOOK_SECONDS = 0.02


class AgentStream:
    """Implements AttachedAgent on a gRPC stream.

    One reader: the handler, in `read()`. A pending read is never cancelled while the stream continues. To end the
    stream, `writer` sends the final status, which also ends the pending read.

    Reading pauses while more than 200 acknowledgements wait: an agent that sends a lot but reads nothing is no longer
    read, and is disconnected as silent.
    """

    __slots__ = (
        "_certificate_asked_at",
        "_context",
        "_debugging",
        "_last_write_seconds",
        "_outbox",
        "_packer",
        "_renewals",
        "_reports",
        "at_rest",
        "end_reason",
        "knows_halts",
        "labels",
        "last_checkpoint",
        "on_halted",
        "renew_certificate",
        "session",
        "stop",
        "told_checkpoint",
        "writer",
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
        self.end_reason: CloseReason | None = None
        """Why the server ends it; None while it does not."""
        self._certificate_asked_at = -math.inf
        self._packer = packer
        self._outbox = AgentOutbox()
        self.writer = StreamWriter(context, session, self._outbox, reports, packer, last_write_seconds)
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
        self.writer.send()
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
            self.writer.send()

    def withdraw(self, command_id: str, lease_id: str, reason: str, stop: bool) -> None:
        """Do not send a command that the agent lost; with `stop`, cancel it if it was sent."""
        self._outbox.withdraw(command_id, lease_id, reason if stop else None)
        if not stop:
            # Even if it was not sent: only the agent's word settles what the store takes for given up.
            self.session.gave_up(command_id, lease_id)
        self.writer.send()

    def acknowledge_output(self, lease: LeaseRef, offset: int) -> None:
        """Let the agent discard its output under this lease before `offset`, and thus send more."""
        self.session.output_acknowledged(*lease, offset)
        self._outbox.answer(Answers(outputs=[OutputAnswer(lease, offset)]))
        self.writer.send()

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
            self.writer.send()
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
        self.writer.send()

    def drain(self, reconnect_after_seconds: float) -> None:
        """Ask the agent to move to another server. Until it has, it is served as before."""
        self._outbox.control().drain.reconnect_after.FromMilliseconds(round(reconnect_after_seconds * 1000))
        self.writer.send()

    async def probe(self, peer: str = "") -> bool:
        """Whether the agent answers at once. Another instance claims its id, from the address `peer` if known."""
        logger.warning("another instance claims an agent's id", agent_id=self.session.agent_id, peer=peer)
        asked_at = monotonic_ms()
        self._outbox.control().probe.peer = peer
        self.writer.send()
        until = asyncio.get_running_loop().time() + PROBE_SECONDS
        while self.session.heartbeat_received_at < asked_at and self.writer.ending is None:
            if asyncio.get_running_loop().time() >= until:
                return False
            await asyncio.sleep(PROBE_LOOK_SECONDS)
        return self.writer.ending is None

    def renewed(self, sequence: int) -> None:
        """Heartbeat `sequence` is stored: answer it."""
        reply = self._outbox.control().heartbeat_reply
        reply.sequence = sequence
        checkpoint = self.last_checkpoint()
        if checkpoint != self.told_checkpoint:
            reply.checkpoint = self.told_checkpoint = checkpoint
        self.writer.send()

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
        if self.writer.ending is None:
            logger.info("ending the stream of an agent", agent_id=self.session.agent_id, why=close_reason.value)
            # Claim nothing more: commands that cannot be delivered would use up attempts.
            self.session.ending = True
            self.end_reason = close_reason
            self.writer.end(error)

    # The handler

    def welcome(self, message: pb.Welcome) -> None:
        """Send the first message."""
        self._outbox.control().welcome.CopyFrom(message)
        self.writer.send()

    async def read(self) -> bool:
        """Serve the agent until its stream ends; return True if it said Goodbye.

        Raises InvalidArgument for a protocol violation, Aborted if a newer session exists, and Unavailable if Valkey is
        away: the agent then reattaches and reports again.
        """
        self.writer.handler = asyncio.current_task()
        try:
            return await self._read()
        except Exception:
            if self.writer.ending is None:
                raise
            # The status of the end counts; gRPC would log a second one as a fault.
            await asyncio.wait([self.writer.ending])
            return False

    async def _read(self) -> bool:
        while True:
            if self._outbox.waiting_acks > MAX_WAITING_ACKS:
                await self.writer.room_for_answers()
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
        return await self.writer.close()

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
                self.writer.send()
            else:
                self.writer.send_soon()

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
        self.writer.send()


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
