"""One run of one handler: its limits, stopping, and result.

running ──stop()──► stopping ──handler ends──► ended
                       │
                       └── stop grace over ──► a cancel, or given up by the server: overdue, until the handler ends
                                               anything else: ended as `would_not_stop`, and abandoned
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from distributor.agent import result as results
from distributor.agent.actions import StopCause
from distributor.agent.command_context import BlockingContext, CommandContext
from distributor.agent.handler_call import HandlerCall, HandlerEnding
from distributor.agent.record import RecordedCommand
from distributor.agent.survivors import surviving_handler
from distributor.observability.logging import get_logger
from distributor.timeouts import Timeouts
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.wire.limits import MAX_SURVIVORS

logger = get_logger()

OnEnd = Callable[["CommandRun", gateway.Result], None]
OnRun = Callable[["CommandRun"], None]

_MAY_COME_TOO_LATE: Final = (StopCause.CANCELLED, StopCause.HALTED, StopCause.AGENT_STOPPED)
"""Causes without effect on a handler that ends before it notices the request. A limit was exceeded all the same."""

_WAITED_FOR: Final = (StopCause.CANCELLED, StopCause.HALTED, StopCause.DISOWNED)
"""Causes after which a command runs until its handler ends. The result of a disowned one is not reported, so that a
failure could not say that it still runs."""


class RunLimits(NamedTuple):
    """The deadlines of all runs: `time` stops those that exceed their time limit, `idle` calls `check_idle`."""

    time: Timeouts[CommandRun]
    idle: Timeouts[CommandRun]


class CommandRun:
    """Calls a handler once; belongs to the connection's loop. Calls `on_end` with the result exactly once.

    A handler's own result counts if it ended before the request to stop was made, or before it noticed a cancel.

    If the handler has not ended `stop_grace` seconds after a cancel, or after the server gave the command up,
    `on_overdue` is called, and the command counts as running until the handler ends. After any other request it is
    `abandoned`: it has ended as failed, and `on_release` is called when the handler ends after all.
    """

    def __init__(
        self,
        held: RecordedCommand,
        context: CommandContext | BlockingContext,
        call: HandlerCall,
        stop_grace: float,
        limits: RunLimits,
    ) -> None:
        self.held = held
        self.context = context
        self.abandoned = False
        self.overdue = False
        """Whether it was cancelled, or given up by the server, and has not stopped within the grace."""
        self._call = call
        self._stop_grace = stop_grace
        self._limits = limits
        self._cause: StopCause | None = None
        self._asked_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._ended, self._settled = asyncio.Event(), asyncio.Event()
        self._on_end: OnEnd = lambda run, result: None
        self._on_release: OnRun = lambda run: None
        self._on_overdue: OnRun = lambda run: None

    @property
    def blocks_its_loop(self) -> bool:
        """Whether a request to stop could not reach the handler."""
        return self._cause is not None and not self._call.stop_delivered

    @property
    def survivors(self) -> Sequence[gateway.SurvivingProcess]:
        """What still runs of it: its processes, or the handler itself within the agent's process."""
        found = self.context.survivors()
        return found[:MAX_SURVIVORS] or [surviving_handler(self._call.name)]

    def start(self, on_end: OnEnd, on_release: OnRun = lambda run: None, on_overdue: OnRun = lambda run: None) -> None:
        """Call the handler. If that fails, it ends as `not_started`."""
        self._on_end, self._on_release, self._on_overdue = on_end, on_release, on_overdue
        if self.context.time_limit is not None:
            self._limits.time.add(self, self.context.started_at + self.context.time_limit)
        if self.context.idle_limit is not None:
            self._limits.idle.add(self, self.context.started_at + self.context.idle_limit)
        try:
            self._call.start(self._done)
        except Exception as error:
            logger.error("the handler cannot be called", command_id=self.held.command_id, exc_info=error)
            self._end(results.not_started(self.held, error))

    def extend(self, time_limit: float) -> bool:
        """Let it run for `time_limit` seconds from its start; return False if it must stop already."""
        if self._cause is not None or self._ended.is_set() or time_limit <= self.held.extended_limit:
            return False
        self.held.extended_limit = time_limit
        self._limits.time.add(self, self.context.started_at + time_limit)
        return True

    def check_idle(self) -> None:
        """Stop it if it has been silent for its idle limit; otherwise look again when it could have been."""
        limit, silence = self.context.idle_limit, self.context.silence()
        if limit is None:
            return
        if silence >= limit:
            self.stop(StopCause.IDLE_LIMIT)
        else:
            self._limits.idle.add(self, time.monotonic() + limit - silence)

    def stop(self, cause: StopCause) -> None:
        """Ask the handler to end, once; the first cause is the one reported.

        If it is overdue, a repeated cancel is answered again, and any other cause abandons it.
        """
        if self._ended.is_set():
            return
        if self.overdue:
            self._still_overdue(cause)
        if self._cause is not None:
            return
        self._cause, self._asked_at = cause, time.monotonic()
        self._discard_limits()
        self._timer = asyncio.get_running_loop().call_later(self._stop_grace, self._grace_over)
        self._call.stop()

    async def ended(self) -> None:
        """Wait until the result is known."""
        await self._ended.wait()

    async def settled(self) -> None:
        """Wait until the result is known, or it is overdue."""
        await self._settled.wait()

    def _still_overdue(self, cause: StopCause) -> None:
        if cause in (StopCause.CANCELLED, StopCause.HALTED):
            self._on_overdue(self)
        elif cause is StopCause.AGENT_STOPPED or self._cause in (StopCause.CANCELLED, StopCause.HALTED):
            self._abandon(cause)

    def _done(self, ending: HandlerEnding) -> None:
        if self.abandoned or self.overdue:
            logger.warning("the handler ended after its stop grace", command_id=self.held.command_id)
        if self.abandoned:
            self._on_release(self)
        else:
            self._end(self._outcome(ending))

    def _outcome(self, ending: HandlerEnding) -> gateway.Result:
        cause = self._cause
        if cause is None or ending.at <= self._asked_at or (cause in _MAY_COME_TOO_LATE and not ending.stopped):
            return ending.result
        return results.stopped(self.held, cause)

    def _grace_over(self) -> None:
        cause = self._cause or StopCause.CANCELLED
        logger.error(
            "the handler does not stop; it occupies its slot until it ends",
            command_id=self.held.command_id,
            attempt=self.context.attempt,
            type=self.context.type,
            cause=cause.value,
            seconds=self._stop_grace,
        )
        if cause in _WAITED_FOR:
            self.overdue = True
            self._settled.set()
            self._on_overdue(self)
        else:
            self._abandon(cause)

    def _abandon(self, cause: StopCause) -> None:
        self.abandoned = True
        self._end(results.would_not_stop(self.held, cause, self._stop_grace, self.survivors))

    def _end(self, result: gateway.Result) -> None:
        self._discard_limits()
        if self._timer:
            self._timer.cancel()
        self.context.end()
        result.output_bytes = self.held.output_bytes
        if not result.survivors:
            result.survivors.extend(self.context.survivors()[:MAX_SURVIVORS])
        self._ended.set()
        self._settled.set()
        self._on_end(self, result)

    def _discard_limits(self) -> None:
        self._limits.time.discard(self)
        self._limits.idle.discard(self)
