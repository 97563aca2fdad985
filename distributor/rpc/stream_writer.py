"""Writes one agent stream, and ends it with a status."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final, TypeAlias

import grpc

from distributor.dispatch.agent_reports import AgentReports
from distributor.errors import DistributorError
from distributor.model.agent_report import LeaseRef, Refusal, RefusalKind, Report
from distributor.model.agent_session import AgentSession
from distributor.model.command import Reason
from distributor.observability.logging import get_logger
from distributor.rpc.agent_outbox import AgentOutbox
from distributor.rpc.session_clock import monotonic_ms
from distributor.rpc.status import to_grpc
from distributor.wire.message_packer import MessagePacker

logger = get_logger()

ACK_DELAY_SECONDS = 0.05
"""How long acknowledgements of results wait for another message. An agent only holds a result a little longer."""
MAX_WAITING_ACKS: Final = 200
"""Acknowledgements that wait for an agent to read, before it is no longer read itself."""
UNREADABLE: Final = Reason("unreadable_command", "the stored command is unreadable")

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
"""Broader than the messages: a read may also return EOF or a Malformed."""


class StreamWriter:
    """One writer at a time: a task that exists only while there is something to send, so idle agents have no task.

    A pending write is never cancelled while the stream continues. Its final status also ends a pending read.
    """

    __slots__ = (
        "_acks_due",
        "_context",
        "_ending",
        "_last_write_seconds",
        "_outbox",
        "_packer",
        "_reports",
        "_session",
        "_task",
        "_written",
        "accepts_gzip",
        "handler",
    )

    def __init__(
        self,
        context: Context,
        session: AgentSession,
        outbox: AgentOutbox,
        reports: AgentReports,
        packer: MessagePacker,
        last_write_seconds: float,
    ) -> None:
        """`last_write_seconds` bounds the final writes when the stream ends."""
        self.accepts_gzip = False
        """Whether the agent accepts compressed messages."""
        self.handler: asyncio.Task[Any] | None = None
        """The task that serves the stream; cancelled if the agent does not read the status of its end."""
        self._context = context
        self._session = session
        self._outbox = outbox
        self._reports = reports
        self._packer = packer
        self._last_write_seconds = last_write_seconds
        self._task: asyncio.Task[None] | None = None
        self._written: asyncio.Event | None = None
        """Set by the next write; exists only while the reader waits for it."""
        self._ending: asyncio.Task[None] | None = None
        self._acks_due: asyncio.TimerHandle | None = None

    @property
    def ending(self) -> asyncio.Task[None] | None:
        """The task that ends the stream with a status; None while none does."""
        return self._ending

    def send(self) -> None:
        """Write what the outbox has."""
        if self._acks_due is not None:
            self._acks_due.cancel()
            self._acks_due = None
        if self._task is None and self._ending is None:
            self._task = asyncio.create_task(self._write())

    def send_soon(self) -> None:
        """Send with the next message, which usually brings more commands, or after a moment."""
        if self._acks_due is None:
            self._acks_due = asyncio.get_running_loop().call_later(ACK_DELAY_SECONDS, self.send)

    async def room_for_answers(self) -> None:
        """Wait until fewer acknowledgements wait, or nothing is written any more."""
        while self._outbox.waiting_acks > MAX_WAITING_ACKS and self._task is not None:
            self._written = asyncio.Event()
            await self._written.wait()
        self._written = None

    def end(self, error: DistributorError) -> None:
        """End the stream with the status of `error`, after the write under way. Call once."""
        self._ending = asyncio.create_task(self._abort(error))

    async def close(self) -> list[tuple[str, str]]:
        """Write the remaining messages and stop; return commands never sent, as (command id, lease id).

        An agent that does not read has `last_write_seconds` for this.
        """
        if self._acks_due is not None:
            self.send()
        unsent = self._outbox.unsent()
        tasks = {task for task in (self._task, self._ending) if task is not None}
        if tasks:
            await asyncio.wait(tasks, timeout=self._last_write_seconds)
        if self._task is not None:
            self._task.cancel()
        return unsent

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
                        self._session.sent(sent, monotonic_ms())
                    if cancels:
                        self._reports.cancels_written(self._session, cancels)
                    if self._written is not None:
                        self._written.set()
        except (grpc.aio.BaseError, asyncio.InvalidStateError) as error:
            # The stream broke. The reader notices too, and the deadlines cover commands already sent.
            logger.debug("cannot write to the agent", error=str(error), agent_id=self._session.agent_id)
        finally:
            self._task = None
            if self._written is not None:
                self._written.set()

    async def _give_up(self, unreadable: list[tuple[str, str]]) -> None:
        """Fail commands that cannot be decoded."""
        command_ids = [command_id for command_id, _ in unreadable]
        logger.warning("commands cannot be read", agent_id=self._session.agent_id, command_ids=command_ids)
        refusals = [Refusal(LeaseRef(*one), RefusalKind.UNSUPPORTED, UNREADABLE) for one in unreadable]
        try:
            await self._reports.handle(self._session, Report(refusals=refusals), monotonic_ms())
        except DistributorError as error:
            # The ack deadline then handles them.
            logger.warning("cannot fail unreadable commands", error=str(error), agent_id=self._session.agent_id)

    async def _abort(self, error: DistributorError) -> None:
        if self._task is not None:
            await asyncio.wait([self._task], timeout=self._last_write_seconds)
        # Behind a stuck write, the status arrives only if the agent ever reads again. Do not wait for that.
        delay = self._last_write_seconds if self._task is None else 0.0
        cancel_timer = asyncio.get_running_loop().call_later(delay, self._cancel_handler)
        code, message, metadata = to_grpc(error)
        with contextlib.suppress(grpc.aio.AbortError, grpc.aio.BaseError):
            await self._context.abort(code, message, metadata)
        cancel_timer.cancel()

    def _cancel_handler(self) -> None:
        if self.handler is not None:
            self.handler.cancel()
