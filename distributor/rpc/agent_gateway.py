"""Serves agent streams: opens the session, runs the stream, cleans up afterwards."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from contextlib import nullcontext

import grpc

import distributor
from distributor.dispatch.agent_registry import AgentRegistry, CloseReason
from distributor.dispatch.agent_reports import AgentReports
from distributor.dispatch.audit_recorder import NO_AUDIT, Audit
from distributor.dispatch.audit_witnesses import AuditWitnesses
from distributor.dispatch.enrolment import Enrolments
from distributor.dispatch.halts import Halts
from distributor.dispatch.ports import CommandStore, SessionStore
from distributor.dispatch.refusals import attaching_too_fast, draining
from distributor.dispatch.revocations import Revocations
from distributor.dispatch.session_renewals import SessionRenewals
from distributor.dispatch.wakeups import Wakeups
from distributor.errors import Aborted, AlreadyExists, DistributorError, InvalidArgument, Unavailable
from distributor.model.agent import AgentHello, Attached
from distributor.model.agent_session import MAX_UNACKNOWLEDGED_OUTPUT_BYTES, AgentSession
from distributor.model.audit_entry import AuditActor, AuditEntry, AuditEvent, Detail
from distributor.model.delivery import NOT_DELIVERED, Release
from distributor.model.in_flight import InFlight
from distributor.model.labels import AgentLabels, agent_labels
from distributor.model.output_flow import OutputFlow
from distributor.model.revocation import Credential
from distributor.observability.logging import get_logger
from distributor.rpc.agent_admission import AgentAdmission
from distributor.rpc.agent_connects import AgentConnects
from distributor.rpc.agent_credential import (
    StreamEnd,
    agent_credential,
    check_agent_is_caller,
    log_overruled_labels,
)
from distributor.rpc.agent_messages import agent_hello
from distributor.rpc.agent_stream import AgentStream
from distributor.rpc.attach_pace import AttachPace
from distributor.rpc.current_caller import current_caller, host_of
from distributor.rpc.enrolment_messages import certificate_renewal
from distributor.rpc.malformed import Malformed
from distributor.rpc.session_clock import monotonic_ms
from distributor.rpc.stream_writer import Context
from distributor.settings import ServerSettings
from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1.agent_gateway_pb2_grpc import AgentGatewayServiceServicer
from distributor.wire.at_rest_packer import STORED_PLAIN
from distributor.wire.limits import MAX_OUTPUT_CHUNK_BYTES
from distributor.wire.message_packer import PLAIN

logger = get_logger()

HELLO_TIMEOUT_SECONDS = 10.0
FREED_LOOKS = 5
FREED_LOOK_SECONDS = 0.2
"""Together a little longer than another server needs to probe its agent."""


class AgentGateway(AgentGatewayServiceServicer):
    """One stream per agent. Keeps only counts: sessions live in the registry and in the store."""

    def __init__(
        self,
        store: CommandStore,
        sessions: SessionStore,
        reports: AgentReports,
        registry: AgentRegistry,
        wakeups: Wakeups,
        settings: ServerSettings,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._reports = reports
        self._registry = registry
        self._wakeups = wakeups
        self._settings = settings
        self._renewals = SessionRenewals(sessions)
        self._admission = AgentAdmission(settings.max_agents)
        self._connects = AgentConnects(settings)
        self._pace = AttachPace(settings.attach_rate)
        self.hello_timeout_seconds = HELLO_TIMEOUT_SECONDS
        """How long a new stream may wait before its Hello."""
        self.packer = PLAIN
        """Compresses messages to agents, and decompresses theirs."""
        self.at_rest = STORED_PLAIN
        """Compresses results and output as they are to be stored."""
        self.halts: Halts | None = None
        """Applies emergency stops to the agents that attach."""
        self.audit: Audit = NO_AUDIT
        """Records which agents come and go."""
        self.revocations = Revocations()
        """Ends streams whose credentials lapse."""
        self.enrolments: Enrolments | None = None
        """Renews the certificates of attached agents."""
        self.witnesses: AuditWitnesses | None = None
        """Compares the checkpoints that agents remember with the audit trail."""
        self.last_checkpoint: Callable[[], str] = str
        """Returns the last checkpoint of the audit trail, "" if there is none."""
        self._draining = False
        self._cleanups: set[asyncio.Task[None]] = set()

    def drain(self, spread_seconds: float) -> None:
        """Refuse new agents, and ask the attached ones to move to another server at random times within the spread."""
        self._draining = True
        for agent in self._registry:
            agent.drain(reconnect_after_seconds=random.uniform(0.0, spread_seconds))

    # Awaited rather than iterated: it reads and writes through its context, which the stubs do not describe.
    async def Connect(  # type: ignore[override]
        self, request_iterator: object, context: Context
    ) -> None:
        caller = current_caller()
        # First: one agent, or whoever has its credentials, must not use up what is there for all.
        with self._connects.stream(caller.subject) if caller.known else nullcontext(), self._admission.stream():
            wait_seconds = self._pace.admit(time.monotonic())
            if wait_seconds is not None:
                raise attaching_too_fast(wait_seconds)
            credential = agent_credential(caller, context.auth_context, self._settings.trust_domain)
            end = StreamEnd()
            with self.revocations.guard(credential, end):
                hello = await self._hello(context)
                check_agent_is_caller(hello.agent_id, caller, hello.peer)
                labels = agent_labels(hello.labels, caller.labels, self._settings.verified_labels)
                with self._admission.agent(hello.agent_id):
                    await self._serve(hello._replace(labels=labels.effective), labels, context, credential, end)

    async def _serve(
        self, hello: AgentHello, labels: AgentLabels, context: Context, credential: Credential, end: StreamEnd
    ) -> None:
        hello_read_at = monotonic_ms()
        attached = await self._attach(hello)
        session = _session(hello, attached, unacknowledged_output_bytes(self._settings))
        # Not the Welcome: the agent counts from when it sent its Hello, and Valkey may have taken long to answer.
        session.heartbeat_received_at = hello_read_at
        session.fresh_for_ms = fresh_for_ms(self._settings)
        session.silent_after_ms = self._settings.heartbeat_interval * 1000
        stream = AgentStream(context, session, self._reports, self._renewals, packer=self.packer)
        stream.writer.accepts_gzip = hello.accepts_gzip
        stream.at_rest = self.at_rest
        stream.labels, stream.knows_halts, stream.stop = hello.labels, hello.knows_halts, attached.stop
        if self.enrolments is not None:
            stream.renew_certificate = certificate_renewal(
                self.enrolments, credential, labels.proven, host_of(hello.peer)
            )
        stream.last_checkpoint, stream.told_checkpoint = self.last_checkpoint, hello.checkpoint
        stream.welcome(self._welcome(hello, attached, labels))
        older = self._registry.add(stream)
        if older is not None:
            older.end(CloseReason.SUPERSEDED)
        if self.halts is not None:
            stream.on_halted = self.halts.reported
            self.halts.attached(stream)
        if hello.halted and stream.stop is None:
            stream.resume_from(hello.halted)
        end.opened(stream)
        if self._draining:
            # It began while the session was opened.
            stream.drain(reconnect_after_seconds=0.0)
        logger.info("agent attached", agent_id=hello.agent_id, epoch=attached.epoch)
        log_overruled_labels(hello.agent_id, labels)
        self._note(AuditEvent.AGENT_CONNECTED, session, hello.peer)
        if self.witnesses is not None:
            self.witnesses.said(hello.agent_id, hello.checkpoint)
        if attached.earlier_journal_id:
            logger.warning(
                "an agent came back without its journal",
                agent_id=hello.agent_id,
                earlier=attached.earlier_journal_id,
                now=hello.journal_id or "none",
            )
        for adopted in attached.adopted.values():
            if adopted.cancel_reason is not None:
                stream.cancel(adopted.command_id, adopted.cancel_reason)
        self._wakeups.wake(hello.agent_id, control=True)
        goodbye = False
        try:
            goodbye = await stream.read()
        finally:
            self._registry.remove(stream)
            why = stream.end_reason or ("left" if goodbye else "lost")
            self._note(AuditEvent.AGENT_DISCONNECTED, session, hello.peer, why)
            # Clean up even if the handler is cancelled.
            await asyncio.shield(self._start_cleanup(self._clean_up(stream, goodbye)))

    def _note(self, event: AuditEvent, session: AgentSession, peer: str, reason: str = "") -> None:
        actor = AuditActor("agent", session.agent_id, address=host_of(peer))
        details: dict[str, Detail] = {"epoch": session.epoch}
        self.audit.note(AuditEntry(event, actor, agent_id=session.agent_id, reason=reason, details=details))

    @property
    def streams(self) -> int:
        """Number of agents' streams that are open, or that the store does not know to have ended."""
        return len(self._registry) + len(self._cleanups)

    async def idle(self) -> None:
        """Return once all cleanup after streams is complete."""
        while self._cleanups:
            await asyncio.wait(self._cleanups)

    def _start_cleanup(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        cleanup = asyncio.create_task(work)
        self._cleanups.add(cleanup)
        cleanup.add_done_callback(self._cleanups.discard)
        return cleanup

    async def _attach(self, hello: AgentHello) -> Attached:
        present = self._registry.get(hello.agent_id)
        if present is not None:
            # Attaching requeues what was never acknowledged: not a command whose start waits to be stored.
            await self._reports.settle(present.session)
        try:
            return await self._open(hello)
        except AlreadyExists as taken:
            logger.warning("another live instance has an agent's id", agent_id=hello.agent_id, refused=hello.peer)
            if present is not None and present.session.epoch == int(taken.metadata["epoch"]):
                if await present.probe(hello.peer):
                    raise
            elif (attached := await self._freed_elsewhere(hello, taken)) is not None:
                return attached
            # Its connection is half open, or its server is gone.
            return await self._open(hello, int(taken.metadata["epoch"]))

    async def _freed_elsewhere(self, hello: AgentHello, first: AlreadyExists) -> Attached | None:
        """Attach once the server that serves the other instance finds that it does not answer.

        Return None if that server does not find out in time. Raises AlreadyExists if the instance has answered.
        """
        for _ in range(FREED_LOOKS):
            await asyncio.sleep(FREED_LOOK_SECONDS)
            try:
                return await self._open(hello)
            except AlreadyExists as taken:
                if _has_answered(taken, first):
                    raise
        return None

    async def _open(self, hello: AgentHello, unanswering_epoch: int | None = None) -> Attached:
        attaching = asyncio.create_task(self._sessions.attach(hello, unanswering_epoch))
        try:
            return await asyncio.shield(attaching)
        except Unavailable as error:
            if error.reason == "FLAPPING":
                logger.warning("an agent attaches too often", agent_id=hello.agent_id, peer=hello.peer)
            # Agents come back one after the other, not all at once.
            if error.retry_after_seconds is None:
                error.retry_after_seconds = self._pace.later(time.monotonic())
            raise
        except asyncio.CancelledError:
            # The session opens anyway, and would keep other instances out although its agent is gone.
            self._start_cleanup(self._detach_once(attaching, hello.agent_id))
            raise

    async def _detach_once(self, attaching: asyncio.Task[Attached], agent_id: str) -> None:
        try:
            attached = await attaching
            await self._sessions.detach([(agent_id, attached.epoch)])
        except DistributorError as error:
            logger.warning("cannot record that the agent left", error=str(error), agent_id=agent_id)

    async def _hello(self, context: Context) -> AgentHello:
        if self._draining:
            raise draining()
        # Not wait_for: a pending read must not be cancelled. It ends once the status is sent.
        reading = asyncio.ensure_future(context.read())
        await asyncio.wait([reading], timeout=self.hello_timeout_seconds)
        if not reading.done():
            # Consume the exception so that asyncio does not warn.
            reading.add_done_callback(lambda task: task.cancelled() or task.exception())
            raise Aborted(f"no hello came within {self.hello_timeout_seconds:g} s", reason="NO_HELLO")
        request = reading.result()
        if self._draining:
            # It began while the Hello was awaited.
            raise draining()
        if isinstance(request, Malformed):
            raise request.error
        if request is grpc.aio.EOF or not request.HasField("hello"):
            raise InvalidArgument(
                "hello is missing: it must be the first message", field="hello", reason="PROTOCOL_VIOLATION"
            )
        for part, _ in request.ListFields():
            # All other parts depend on the Welcome, which says what the agent keeps.
            if part.name != "hello":
                raise InvalidArgument(
                    f"hello must travel alone: {part.name} must wait for the welcome",
                    field=part.name,
                    reason="PROTOCOL_VIOLATION",
                )
        return agent_hello(request.hello)._replace(peer=context.peer())

    def _welcome(self, hello: AgentHello, attached: Attached, labels: AgentLabels) -> pb.Welcome:
        settings = self._settings
        welcome = pb.Welcome(
            epoch=attached.epoch,
            limits=pb.Limits(
                max_result_bytes=settings.max_result_bytes,
                max_output_chunk_bytes=MAX_OUTPUT_CHUNK_BYTES,
                max_unacknowledged_output_bytes=unacknowledged_output_bytes(settings),
            ),
            server_version=f"distributor {distributor.__version__}",
            overruled_labels=(*labels.unproven, *labels.overruled),
            accepts_gzip=self.packer.enabled,
        )
        if attached.stop is not None and hello.knows_halts:
            welcome.halt.stop_id, welcome.halt.reason = attached.stop.stop_id, attached.stop.reason
        welcome.heartbeat_interval.FromMilliseconds(round(settings.heartbeat_interval * 1000))
        welcome.start_within.FromMilliseconds(round(settings.start_within * 1000))
        for held in hello.held:
            adopted = attached.adopted.get(held.command_id)
            if adopted is not None:
                verdict, offset = pb.VERDICT_KEEP, adopted.output_bytes
            elif held.command_id in attached.counted:
                verdict, offset = pb.VERDICT_STORED, 0
            elif held.command_id in attached.ended and not held.running:
                verdict, offset = pb.VERDICT_KEEP, 0
            else:
                verdict, offset = pb.VERDICT_STOP, 0
                logger.debug(
                    "held command is no longer the agent's",
                    agent_id=hello.agent_id,
                    command_id=held.command_id,
                    lease_id=held.lease_id,
                )
            welcome.verdicts.add(command_id=held.command_id, verdict=verdict, output_offset=offset)
        return welcome

    async def _clean_up(self, stream: AgentStream, goodbye: bool) -> None:
        session = stream.session
        unstarted = await stream.close()
        if goodbye:
            # After Goodbye the agent starts nothing: requeue also commands that crossed it on the wire.
            unstarted = session.unacknowledged()
        logger.info("agent left" if goodbye else "agent lost", agent_id=session.agent_id, epoch=session.epoch)
        try:
            # Before the release: a received command may have started.
            await self._reports.settle(session)
            await self._store.release(
                [
                    Release(command_id, session.agent_id, lease_id, 0, NOT_DELIVERED, counts=False, unsent=True)
                    for command_id, lease_id in unstarted
                ]
            )
            await self._sessions.detach([(session.agent_id, session.epoch)])
        except DistributorError as error:
            # The ack deadlines and the age of the last heartbeat have the same effect a little later.
            logger.warning("cannot record that the agent left", error=str(error), agent_id=session.agent_id)


def _session(hello: AgentHello, attached: Attached, output_window: int) -> AgentSession:
    now = monotonic_ms()
    session = AgentSession(hello.agent_id, attached.epoch, hello.capacity, now, output_window)
    produced = {(held.command_id, held.lease_id): held.output_bytes for held in hello.held}
    for adopted in attached.adopted.values():
        # Earlier stages are measured from the claim by Valkey's clock, later ones by ours.
        claimed_at = now - (attached.now_ms - adopted.assigned_ms)
        item = InFlight(adopted.lease_id, adopted.attempt, claimed_at, adopted.control)
        item.revision, item.slots = adopted.revision, adopted.slots
        item.sent, item.acknowledged, item.started = (
            adopted.sent_after_ms,
            adopted.acknowledged_after_ms,
            adopted.started_after_ms,
        )
        item.output = OutputFlow(adopted.output_bytes, produced[adopted.command_id, adopted.lease_id])
        session.adopted(adopted.command_id, item)
    for held in hello.held:
        if held.running and held.command_id not in attached.adopted:
            session.stopping(held.command_id, held.lease_id)
    return session


def fresh_for_ms(settings: ServerSettings) -> float:
    """How long after reading a heartbeat to claim commands: half of what exceeds the interval is left for transit."""
    return (settings.heartbeat_interval + settings.start_within) / 2 * 1000


def unacknowledged_output_bytes(settings: ServerSettings) -> int:
    """Window for unacknowledged output of a command: at most half of what is retained, so that a reader can hold it."""
    return min(MAX_UNACKNOWLEDGED_OUTPUT_BYTES, settings.output_kept_bytes // 2)


def _has_answered(now: AlreadyExists, before: AlreadyExists) -> bool:
    """Whether the live instance was seen between two refusals, or is another one by now."""
    return now.metadata != before.metadata
