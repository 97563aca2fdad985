"""Runs one agent: connects the server connection, the running commands, and leaving."""

from __future__ import annotations

import asyncio
import random
from typing import Final

import grpc

from distributor.agent import result as results
from distributor.agent.actions import (
    Action,
    CertificateAnswered,
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
from distributor.agent.agent_journal import AgentJournal
from distributor.agent.agent_profile import AgentProfile
from distributor.agent.certificate_renewal import CertificateRenewal
from distributor.agent.command_context import Handler
from distributor.agent.current_session import CurrentSession
from distributor.agent.gateway_stream import EndKind, StreamEnd, now
from distributor.agent.identity_files import IdentityFiles
from distributor.agent.orphan_watch import OrphanWatch
from distributor.agent.record import CommandRecord
from distributor.agent.server_addresses import ServerAddresses
from distributor.agent.server_connection import Plan, ServerConnection
from distributor.agent.session_state import SessionState
from distributor.agent.vetting import Vetting
from distributor.agent.workload import HandlerTable, Workload
from distributor.errors import ConfigurationError
from distributor.model.control import STOP
from distributor.observability.logging import get_logger
from distributor.observability.loop_watchdog import LoopWatchdog
from distributor.wire.credentials import Connector
from distributor.wire.message_packer import PLAIN, MessagePacker

logger = get_logger()

FINISH_SECONDS: Final = 30.0
"""Limit for running work after a signal, before it is cancelled."""

SETTLE_SECONDS: Final = 10.0
"""Limit for the last results to be acknowledged once nothing runs."""


class AgentRuntime:
    """Runs one agent until it leaves. `run()` once; the other methods belong to the same event loop."""

    def __init__(
        self,
        profile: AgentProfile,
        server: str,
        table: HandlerTable,
        packer: MessagePacker = PLAIN,
        journal: AgentJournal | None = None,
    ) -> None:
        self._profile = profile
        self._journal = journal
        self._record = journal.record if journal else CommandRecord()
        self._session = CurrentSession()
        self._table = table
        self._workload = Workload(table, self._record, self._session)
        self._session.vitals = self._workload.vitals
        addresses = ServerAddresses(server, random.shuffle)
        self._connection = ServerConnection(addresses, self._session, self._open_session, self._act, self._plan)
        self._connection.packer = packer
        self._vetting: Vetting | None = None
        self._renewal: CertificateRenewal | None = None
        self._leaving = ""
        self._cancelling = False
        self._left = asyncio.Event()
        self._finish_timer: asyncio.TimerHandle | None = None

    def connect_with(self, connector: Connector) -> None:
        """Use the credentials of `connector`. Call before `run()`."""
        connector.files.on_change = _certificates_changed
        self._connection.connector = connector

    def keep_certificate(self, files: IdentityFiles) -> None:
        """Renew the certificate in `files` before it expires. Call before `run()`."""
        self._renewal = CertificateRenewal(files, self._session)
        self._connection.prepare = self._renewal.prepare

    def vet_by(self, vetting: Vetting) -> None:
        """Vet commands before they are accepted."""
        self._connection.vetting = self._vetting = vetting

    def add_inline_handler(self, command_type: str, handler: Handler) -> None:
        """Add a handler that acts on the runtime and therefore runs on its loop."""
        self._table.handlers[command_type] = handler
        self._table.inline.add(command_type)

    async def run(self) -> None:
        """Serve until the agent leaves. Raises InvalidArgument if the server permanently refuses it.

        When cancelled, stops running commands first.
        """
        self._session.open()
        connecting = asyncio.create_task(self._connection.run(), name="agent connection")
        leaver = asyncio.create_task(self._settle(), name="agent leaving")
        watching = {asyncio.create_task(LoopWatchdog().run(), name="loop watchdog")}
        if self._journal:
            self._keep(self._journal)
            watching.add(asyncio.create_task(self._settle_crash(self._journal), name="agent recovery"))
        if self._renewal:
            watching.add(asyncio.create_task(self._renewal.run(), name="certificate renewal"))
        if self._vetting:
            watching.add(asyncio.create_task(self._vetting.follow(), name="vetting"))
        if self._profile.orphan_after:
            orphans = OrphanWatch(self._profile.orphan_after, self._session, self._orphaned, self._workload.working)
            watching.add(asyncio.create_task(orphans.run(), name="orphan watch"))
        for task in watching:
            task.add_done_callback(_report_failure)
        try:
            done, _ = await asyncio.wait({connecting, leaver}, return_when=asyncio.FIRST_COMPLETED)
            if connecting in done:
                connecting.result()
        finally:
            if self._finish_timer:
                self._finish_timer.cancel()
            try:
                self._workload.stop_all(StopCause.AGENT_STOPPED)
                await self._workload.ended()
            finally:
                tasks = {connecting, leaver, *watching}
                for task in tasks:
                    task.cancel()
                # Cancelled once: a second cancel would interrupt a stream that is being dropped.
                await asyncio.wait(tasks)
                await self._workload.close()
                self._report_lost()

    def leave(self, reason: str, cancel: bool = False, within: float | None = None) -> None:
        """Take no more work; leave once everything has ended and every result is acknowledged.

        `cancel` stops running work except STOP commands now, `within` after that many seconds.
        """
        if not self._leaving:
            logger.info("leaving", reason=reason, still_running=self._record.running)
        self._leaving = self._leaving or reason
        if self._session.state:
            self._session.state.leave(self._leaving, now())
            self._session.wakeup.set()
        self._left.set()
        if cancel:
            self._cancel_work()
        elif within is not None and self._finish_timer is None:
            self._finish_timer = asyncio.get_running_loop().call_later(within, self._cancel_work)

    async def other_work_ended(self) -> None:
        """Wait until only STOP commands run."""
        await self._workload.ended(excluded_types={STOP})

    def _keep(self, journal: AgentJournal) -> None:
        """Let the journal follow the commands, and commands start when it has them."""
        writer = journal.writer
        writer.on_written = self._journal_written
        writer.on_problem = self._journal_changed
        writer.connected = lambda: self._session.state is not None
        self._session.on_output = writer.output_written

    def _journal_written(self) -> None:
        if self._session.state:
            for action in self._session.state.journal_written(now()):
                self._act(action)
            self._session.wakeup.set()

    def _journal_changed(self) -> None:
        if self._session.state:
            for action in self._session.state.journal_changed(now()):
                self._act(action)
            self._session.wakeup.set()

    async def _settle_crash(self, journal: AgentJournal) -> None:
        async for command_id in journal.settle():
            self._session.finished(command_id, now())

    def _orphaned(self) -> None:
        self._workload.stop_all(StopCause.ORPHANED, excluded_types={STOP})

    def _cancel_work(self) -> None:
        self._cancelling = True
        self._workload.stop_all(StopCause.AGENT_STOPPED, excluded_types={STOP})

    async def _settle(self) -> None:
        """Once leaving, wait for the last acknowledgements, for a limited time."""
        await self._left.wait()
        await self._workload.ended()
        if self._session.state is None and self._record.empty:
            return
        await asyncio.sleep(SETTLE_SECONDS)

    def _report_lost(self) -> None:
        if not self._record.empty:
            logger.warning(
                "left with results that the server has not acknowledged", results=self._record.unacknowledged
            )

    def _open_session(self) -> SessionState:
        state = SessionState(self._profile, self._record)
        if self._leaving:
            state.leave(self._leaving, now())
        return state

    def _plan(self, end: StreamEnd) -> Plan:
        """What to do after a stream that was open."""
        if _rejects_message(end):
            self._try_results(end)
        said_goodbye = end.kind is EndKind.GOODBYE and not end.moved
        return Plan(leave=bool(self._leaving) and (said_goodbye or self._record.empty))

    def _try_results(self, end: StreamEnd) -> None:
        """Suspect the results sent on a stream that ended because of a message; replace one that is to blame."""
        held = self._record.get(end.lone_result)
        if held and held.result:
            logger.error("the server rejected a result", command_id=held.command_id, details=end.details)
            self._record.replace(results.rejected(held, end.details))
        else:
            self._record.suspects.update(end.unanswered_results)

    def _act(self, action: Action) -> None:
        match action:
            case StartCommand(assignment):
                self._workload.start(assignment)
                if self._cancelling and assignment.command.type != STOP:
                    # It was accepted before the agent was asked to cancel its work.
                    self._workload.stop(assignment.command.command_id, StopCause.AGENT_STOPPED)
            case RefusedCommand(command_id, attempt, code):
                logger.warning("refused a command", command_id=command_id, attempt=attempt, reason=code)
            case StopCommand(command_id, cause):
                self._workload.stop(command_id, cause)
            case OutputRoom(command_id):
                self._workload.notify_room(command_id)
            case SessionOpened(epoch, version, overruled):
                logger.info("connected", server=self._connection.server, version=version or "unknown", epoch=epoch)
                if overruled:
                    logger.warning("the server takes these labels from the agent's credential only", labels=overruled)
            case _:
                self._act_on_connection(action)

    def _act_on_connection(self, action: Action) -> None:
        match action:
            case IdentityContested(peer):
                logger.warning("another instance claims this agent's id", peer=peer or "at another server")
            case CertificateAnswered(reply):
                if self._renewal:
                    self._renewal.received(reply)
            case ServerDrains(after):
                self._connection.drain(after)
            case ServerStops(reason):
                self.leave(reason or "stopped by the server")


def _certificates_changed(problem: ConfigurationError | None) -> None:
    if problem is None:
        logger.info("certificate files changed; the next connection uses them")
    else:
        logger.error("certificate files changed and are unusable; the previous ones stay in use", fault=str(problem))


def _report_failure(task: asyncio.Task[None]) -> None:
    """Log the error of a background task: nothing else awaits it while the agent serves."""
    if not task.cancelled() and (error := task.exception()):
        logger.error("a background task failed", task=task.get_name(), exc_info=error)


def _rejects_message(end: StreamEnd) -> bool:
    """Whether the stream ended because the server could not accept a message that may have contained a result."""
    match end.code:
        case grpc.StatusCode.INVALID_ARGUMENT:
            return end.reason in ("MALFORMED_MESSAGE", "NESTED_TOO_DEEP") or "results" in end.details
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            # Without a reason, the error is gRPC's own. It has others of this code, such as "too many pings".
            return not end.reason and "larger than max" in end.details
        case _:
            return False
