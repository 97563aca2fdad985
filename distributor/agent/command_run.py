"""One run of one handler: its time limit, stopping, and result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from distributor.agent import result as results
from distributor.agent.actions import StopCause
from distributor.agent.command_context import BlockingContext, CommandContext
from distributor.agent.handler_call import HandlerCall
from distributor.agent.record import RecordedCommand
from distributor.observability.logging import get_logger
from distributor.timeouts import Timeouts
from distributor.v1 import agent_gateway_pb2 as gateway

logger = get_logger()

OnEnd = Callable[["CommandRun", gateway.Result], None]


class CommandRun:
    """Calls a handler once; belongs to the connection's loop. Calls `on_end` with the result exactly once.

    That is when the handler has ended, or has not stopped within `stop_grace` seconds of a request. In the second case
    the run is `abandoned`, and `on_release` is called when the handler ends after all.
    """

    def __init__(
        self,
        held: RecordedCommand,
        context: CommandContext | BlockingContext,
        call: HandlerCall,
        stop_grace: float,
        time_limits: Timeouts[CommandRun],
    ) -> None:
        """`time_limits` stops the runs that exceed theirs."""
        self.held = held
        self.context = context
        self.abandoned = False
        self._call = call
        self._stop_grace = stop_grace
        self._time_limits = time_limits
        self._cause: StopCause | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ended = asyncio.Event()
        self._on_end: OnEnd = lambda run, result: None
        self._on_release: Callable[[CommandRun], None] = lambda run: None

    @property
    def blocks_its_loop(self) -> bool:
        """Whether a request to stop could not reach the handler."""
        return self._cause is not None and not self._call.stop_delivered

    def start(self, on_end: OnEnd, on_release: Callable[[CommandRun], None] = lambda run: None) -> None:
        """Call the handler."""
        self._on_end, self._on_release = on_end, on_release
        if self.context.time_limit is not None:
            self._time_limits.add(self, asyncio.get_running_loop().time() + self.context.time_limit)
        self._call.start(self._done)

    def stop(self, cause: StopCause) -> None:
        """Ask the handler to end, once; the first cause is the one reported."""
        if self._cause is not None or self._ended.is_set():
            return
        self._cause = cause
        self._time_limits.discard(self)
        self._timer = asyncio.get_running_loop().call_later(self._stop_grace, self._abandon)
        self._call.stop()

    async def ended(self) -> None:
        """Wait until the result is known."""
        await self._ended.wait()

    def _done(self, result: gateway.Result) -> None:
        if self.abandoned:
            logger.warning("the handler ended after its stop grace", command_id=self.held.command_id)
            self._on_release(self)
            return
        self._end(result if self._cause is None else results.stopped(self.held, self._cause))

    def _abandon(self) -> None:
        cause = self._cause or StopCause.CANCELLED
        logger.error(
            "the handler does not stop; it occupies its slot until it ends",
            command_id=self.held.command_id,
            attempt=self.context.attempt,
            type=self.context.type,
            cause=cause.value,
            seconds=self._stop_grace,
        )
        self.abandoned = True
        self._end(results.would_not_stop(self.held, cause, self._stop_grace))

    def _end(self, result: gateway.Result) -> None:
        self._time_limits.discard(self)
        if self._timer:
            self._timer.cancel()
        self.context.end()
        result.output_bytes = self.held.output_bytes
        self._ended.set()
        self._on_end(self, result)
