"""One run of one handler: its task, its time limit, and how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from distributor.agent import result as results
from distributor.agent.actions import StopCause
from distributor.agent.command_context import CommandContext, CommandFailed, Handler
from distributor.agent.record import RecordedCommand
from distributor.observability.logging import get_logger, log_context
from distributor.v1 import agent_gateway_pb2 as gateway

logger = get_logger()

OnEnd = Callable[["CommandRun", gateway.Result], None]


class CommandRun:
    """Runs a handler once and calls `on_end` with the result, exactly once, when the handler has really ended."""

    def __init__(self, held: RecordedCommand, context: CommandContext, handler: Handler, max_result_bytes: int) -> None:
        self.held = held
        self.context = context
        self._handler = handler
        self._max_result_bytes = max_result_bytes
        self._cause: StopCause | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._begun = False

    @property
    def task(self) -> asyncio.Task[None]:
        """The task that runs the handler. It never raises."""
        if self._task is None:
            raise RuntimeError("the run was not started")
        return self._task

    def start(self, on_end: OnEnd) -> None:
        """Schedule the handler."""
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._run(on_end), name=f"command {self.held.command_id}")
        if self.context.time_limit is not None:
            self._timer = loop.call_later(self.context.time_limit, self.stop, StopCause.TIME_LIMIT)

    def stop(self, cause: StopCause) -> None:
        """Ask the handler to end, once; the first cause is the one reported."""
        if self._cause is not None:
            return
        self._cause = cause
        # A task cancelled before its first step never runs at all, and then nobody would report its end.
        if self._begun:
            self.task.cancel()

    async def _run(self, on_end: OnEnd) -> None:
        self._begun = True
        with log_context(command_id=self.held.command_id, attempt=self.context.attempt):
            result = await self._outcome()
        if self._timer:
            self._timer.cancel()
        self.context.end()
        on_end(self, result)

    async def _outcome(self) -> gateway.Result:
        try:
            if self._cause is None:
                value = await self._handler(self.context)
                if self._cause is None:
                    return results.completed(self.held, value, self._max_result_bytes)
        except asyncio.CancelledError as error:
            if self._cause is None:
                # Something inside the handler was cancelled, not the handler.
                return results.failed(self.held, error, self._max_result_bytes)
        except Exception as error:
            if self._cause is None:
                self._log_failure(error)
                return results.failed(self.held, error, self._max_result_bytes)
            logger.warning("the handler failed while being stopped", exc_info=error)
        return results.stopped(self.held, self._cause)

    def _log_failure(self, error: Exception) -> None:
        if isinstance(error, CommandFailed):
            logger.info("the command failed", reason=error.code)
        else:
            logger.error("the handler raised an exception", exc_info=error)
