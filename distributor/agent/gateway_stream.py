"""Drives one stream: moves messages between gRPC and the session state; makes no decisions.

One task reads and one writes. Neither is ever cancelled inside `read` or `write`, because that breaks the stream and
leaks native memory. To drop a stream, the whole call is cancelled, which ends both tasks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Final, NamedTuple

import grpc
from google.rpc import error_details_pb2
from grpc import aio

from distributor.agent.actions import Action, SessionOpened
from distributor.agent.current_session import CurrentSession
from distributor.agent.session_state import Phase, SessionState
from distributor.agent.vetting import NO_VERDICTS, Verdict, Vetting
from distributor.observability.logging import get_logger
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.wire.message_packer import PLAIN, MessagePacker
from distributor.wire.status_details import details_of, retry_after_of, unpacked

logger = get_logger()

Call = aio.StreamStreamCall[gateway.ConnectRequest, gateway.ConnectResponse]

WELCOME_SECONDS: Final = 30.0
GOODBYE_SECONDS: Final = 5.0

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_STREAM_ERRORS: Final = (grpc.RpcError, asyncio.InvalidStateError)


def now() -> float:
    """Seconds of a monotonic clock that, if the system has one, also counts while the host sleeps."""
    return time.clock_gettime(_CLOCK)


class EndKind(Enum):
    """How a stream ended."""

    GOODBYE = auto()
    SILENT = auto()
    LOST = auto()


class StreamEnd(NamedTuple):
    """How a stream ended, whether it had received a Welcome, and its gRPC status.

    `retry_after` is in seconds, None if the server did not send it.
    """

    kind: EndKind
    welcomed: bool
    code: grpc.StatusCode
    details: str
    retry_after: float | None
    reason: str = ""
    """The server's error reason, empty if the status is not the server's."""
    confirmed: bool = False
    """Whether a heartbeat was answered on it."""
    unanswered_results: Sequence[str] = ()
    """Ids of commands whose results were sent on it and not acknowledged."""
    lone_result: str = ""
    """Id of the command whose result alone was the last message, if the server had read everything before it."""
    moved: bool = False
    """Whether the agent left it for another server."""


class GatewayStream:
    """One stream from Hello to its end. `run()` once."""

    def __init__(
        self,
        call: Call,
        state: SessionState,
        session: CurrentSession,
        act: Callable[[Action], None],
        packer: MessagePacker = PLAIN,
    ) -> None:
        self._packer = packer
        self._call = call
        self._state = state
        self._session = session
        self._act = act
        self._welcomed = asyncio.Event()
        self._ended = False
        self._silent = False
        self._gathered: asyncio.TimerHandle | None = None
        self.vetting: Vetting | None = None
        """Vets commands before the state sees them; None if the host has no policy for commands."""

    async def run(self) -> StreamEnd:
        """Run the stream to its end. Cancelling this drops the stream; no task remains when it returns."""
        self._session.attach(self._state)
        try:
            if await self._begins():
                await self._exchange()
        finally:
            self._session.detach()
        return await self._end()

    async def _begins(self) -> bool:
        """Wait until the call has begun; return False if it fails.

        In a call that is cancelled before, grpc.aio lets the first write wait for ever.
        """
        begun = False
        try:
            async with asyncio.timeout(WELCOME_SECONDS):
                await self._call.wait_for_connection()
            begun = True
        except (*_STREAM_ERRORS, TimeoutError):
            logger.debug("the stream has not begun")
        except asyncio.CancelledError:
            # This is also what the status CANCELLED raises.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
        finally:
            if not begun:
                self._call.cancel()
        return begun

    async def _exchange(self) -> None:
        """Read and write messages until the stream ends."""
        reader = asyncio.create_task(self._read(), name="agent stream reader")
        writer = asyncio.create_task(self._write(), name="agent stream writer")
        ticker = asyncio.create_task(self._tick(), name="agent stream heartbeats")
        try:
            await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
            # After Goodbye the server ends its side too; if the writer failed, the call has ended.
            await asyncio.wait({reader}, timeout=GOODBYE_SECONDS)
        finally:
            self._ended = True
            self._session.wakeup.set()
            self._call.cancel()
            ticker.cancel()
            if self._gathered is not None:
                self._gathered.cancel()
            await asyncio.wait({reader, writer, ticker})
        for task in (reader, writer, ticker):
            if not task.cancelled() and (error := task.exception()):
                # A bug or a nonsensical message: drop the stream, but keep running work.
                logger.error("the stream was dropped because of an error", exc_info=error)

    async def _end(self) -> StreamEnd:
        kind = EndKind.LOST
        if self._state.phase is Phase.GONE:
            kind = EndKind.GOODBYE
        elif self._silent:
            kind = EndKind.SILENT
        details = details_of(await self._call.trailing_metadata())
        return StreamEnd(
            kind,
            self._welcomed.is_set(),
            await self._call.code(),
            await self._call.details() or "",
            retry_after_of(details),
            unpacked(details, error_details_pb2.ErrorInfo()).reason,
            self._state.confirmed,
            self._state.unanswered_results,
            self._state.lone_result,
            self._state.moving,
        )

    async def _read(self) -> None:
        try:
            while True:
                message = await self._call.read()
                if not isinstance(message, gateway.ConnectResponse):
                    return
                if message.gzip:
                    message = await self._packer.unpack(message, gateway.ConnectResponse.FromString)
                vetted: Sequence[Verdict] = NO_VERDICTS
                if self.vetting and message.commands.assignments:
                    vetted = await self.vetting.verdicts(message.commands.assignments)
                for action in self._state.receive(message, now(), vetted):
                    self._act(action)
                    if isinstance(action, SessionOpened):
                        self._welcomed.set()
                # Tasks created by the actions run before the writer wakes, so their messages are sent together.
                self._session.wakeup.set()
        except _STREAM_ERRORS:
            return
        except asyncio.CancelledError:
            # The call was cancelled; nothing cancels this task.
            return

    async def _write(self) -> None:
        try:
            await self._call.write(self._state.hello(now()))
            while not self._ended:
                message = None if self._gathers() else self._state.take()
                if message is not None:
                    await self._call.write(await self._packed(message))
                    for action in self._state.sent(message, now()):
                        self._act(action)
                elif self._state.phase is Phase.GONE:
                    await self._call.done_writing()
                    return
                else:
                    self._session.wakeup.clear()
                    await self._session.wakeup.wait()
        except _STREAM_ERRORS:
            return
        except asyncio.CancelledError:
            return

    def _gathers(self) -> bool:
        """Whether the next message waits for more. If so, the writer wakes when it has waited for long enough."""
        moment = now()
        until = self._state.gathers_until(moment)
        if until is None:
            return False
        if self._gathered is None:
            self._gathered = asyncio.get_running_loop().call_later(until - moment, self._look_again)
        return True

    def _look_again(self) -> None:
        self._gathered = None
        self._session.wakeup.set()

    async def _packed(self, message: gateway.ConnectRequest) -> gateway.ConnectRequest:
        """Compress large output and results if the server accepts that."""
        if not self._state.server_accepts_gzip or not (message.output or message.results):
            return message
        # Output counts as one part, because its chunks are of any size.
        parts = len(message.received) + len(message.started) + len(message.results)
        return await self._packer.pack(message, max(parts, 1))

    async def _tick(self) -> None:
        try:
            async with asyncio.timeout(WELCOME_SECONDS):
                await self._welcomed.wait()
            while True:
                await asyncio.sleep(self._state.heartbeat_interval)
                if self._state.silent(now()):
                    break
                vitals = await self._session.vitals()
                self._state.heartbeat(now(), vitals)
                self._session.wakeup.set()
        except TimeoutError:
            logger.debug("the server sent no Welcome in time", seconds=WELCOME_SECONDS)
        except Exception:
            # Without heartbeats the stream is of no use.
            self._call.cancel()
            raise
        self._silent = True
        self._call.cancel()
