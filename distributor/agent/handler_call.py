"""Calls a handler on the handlers' loop, on the connection's loop, or in a thread.

All of them call `done(ending)` on the connection's loop exactly once, whatever the handler raises.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple, Protocol

from distributor.agent import result as results
from distributor.agent.command_context import (
    BlockingContext,
    BlockingHandler,
    CommandContext,
    CommandFailed,
    CommandStopped,
    Handler,
)
from distributor.agent.handler_loop import HandlerLoop
from distributor.agent.loop_mailbox import LoopMailbox
from distributor.agent.record import RecordedCommand
from distributor.observability.logging import bind_log_context, get_logger, log_context
from distributor.v1 import agent_gateway_pb2 as gateway

logger = get_logger()


class HandlerEnding(NamedTuple):
    """How a handler ended: its own result, whether it had noticed a request to stop, and when its work was done.

    `at` is a time of `time.monotonic`.
    """

    result: gateway.Result
    stopped: bool
    at: float


Done = Callable[[HandlerEnding], None]


class HandlerCall(Protocol):
    """A call of a handler. Its methods belong to the connection's loop."""

    def start(self, done: Done) -> None:
        """Call the handler; `done` receives its ending."""

    def stop(self) -> None:
        """Ask the handler to stop, once; `done` is called when it has."""

    @property
    def stop_delivered(self) -> bool:
        """Whether the request to stop has reached the handler; False while the handler blocks its loop."""

    @property
    def name(self) -> str:
        """A name for a handler that does not stop, for people."""


class _ResultBuilder:
    """Turns a handler's return value or exception into its result. Runs where the handler runs."""

    def __init__(self, held: RecordedCommand, attempt: int, max_result_bytes: int) -> None:
        self._held = held
        self._attempt = attempt
        self._max_result_bytes = max_result_bytes
        self.stopped = False

    def completed(self, value: object) -> gateway.Result:
        return results.completed(self._held, value, self._max_result_bytes)

    def failed(self, error: BaseException) -> gateway.Result:
        """The result for `error`. Never raises, even if reading the author's exception does."""
        with log_context(command_id=self._held.command_id, attempt=self._attempt):
            try:
                self._log(error)
                return results.failed(self._held, error, self._max_result_bytes)
            except BaseException as fault:
                logger.error("the handler's exception cannot be reported", exc_info=fault)
                return results.unreportable(self._held, error, fault)

    def _log(self, error: BaseException) -> None:
        if self.stopped:
            if not isinstance(error, (asyncio.CancelledError, CommandStopped)):
                logger.warning("the handler failed while being stopped", exc_info=error)
        elif isinstance(error, CommandFailed):
            logger.info("the command failed", reason=error.code)
        else:
            logger.error("the handler raised an exception", exc_info=error)


class LoopCall:
    """A call of a coroutine handler on `handlers`, or on the connection's loop if it never blocks."""

    def __init__(
        self,
        handler: Handler,
        context: CommandContext,
        held: RecordedCommand,
        max_result_bytes: int,
        handlers: HandlerLoop | None,
    ) -> None:
        self._handler = handler
        self._context = context
        self._results = _ResultBuilder(held, context.attempt, max_result_bytes)
        self._handlers = handlers
        self.name = f"{context.type} handler on the agent's event loop"
        self._task_name = f"command {held.command_id}"
        self._task: asyncio.Task[None] | None = None
        self._lock = threading.Lock()
        self._taken = False
        """Whether its loop has reached it. Until then it can move to another loop, or end without a call."""
        self._done: Done = lambda ending: None
        self._begun = False
        self._stop_delivered = False

    @property
    def stop_delivered(self) -> bool:
        """Whether the request to stop has reached the handler."""
        return self._stop_delivered

    @property
    def handlers(self) -> HandlerLoop | None:
        """The loop that it is called on."""
        return self._handlers

    def start(self, done: Done) -> None:
        """Call the handler."""
        self._done = done
        if self._handlers is None:
            self._task = asyncio.get_running_loop().create_task(self._run(done), name=self._task_name)
        else:
            self._call_on(self._handlers)

    def stop(self) -> None:
        """Cancel the handler's task. If its loop has not reached it, end without a call."""
        if self._handlers is None:
            self._cancel()
        elif self._take():
            self._stop_delivered = self._results.stopped = True
            result = self._results.failed(asyncio.CancelledError())
            asyncio.get_running_loop().call_soon(self._done, HandlerEnding(result, True, time.monotonic()))
        else:
            self._handlers.call(self._cancel)

    def move(self, handlers: HandlerLoop) -> None:
        """Call the handler on another loop, unless the first one has reached it."""
        with self._lock:
            if self._taken:
                return
            self._handlers = handlers
            self._context.move(handlers.loop)
        self._call_on(handlers)

    def _call_on(self, handlers: HandlerLoop) -> None:
        handlers.call(partial(self._begin, handlers))

    def _begin(self, handlers: HandlerLoop) -> None:
        handlers.loop.create_task(self._run_on(handlers), name=self._task_name)

    async def _run_on(self, handlers: HandlerLoop) -> None:
        if self._take(handlers):
            self._task = asyncio.current_task()
            await self._run(lambda ending: handlers.home.post(partial(self._done, ending)))

    def _take(self, handlers: HandlerLoop | None = None) -> bool:
        """Return whether nobody took it before, nor moved it away from `handlers`."""
        with self._lock:
            if self._taken or handlers not in (None, self._handlers):
                return False
            self._taken = True
            return True

    def _cancel(self) -> None:
        self._stop_delivered = self._results.stopped = True
        # A task cancelled before its first step never runs, so it could not report its end.
        if self._begun and self._task is not None:
            self._task.cancel()

    async def _run(self, done: Done) -> None:
        self._begun = True
        try:
            if self._results.stopped:
                raise asyncio.CancelledError
            bind_log_context(command_id=self._context.command_id, attempt=self._context.attempt)
            result = self._results.completed(await self._handler(self._context))
        except BaseException as error:  # noqa: BLE001  # even SystemExit ends only the command
            result = self._results.failed(error)
        done(HandlerEnding(result, self._results.stopped, self._context.finished_at or time.monotonic()))


class ThreadCall:
    """A call of a plain function in a thread of its own."""

    stop_delivered = True

    def __init__(
        self,
        handler: BlockingHandler,
        context: BlockingContext,
        held: RecordedCommand,
        max_result_bytes: int,
        home: LoopMailbox,
    ) -> None:
        """`home` makes calls on the connection's loop."""
        self.name = f"agent {context.type} handler"
        self._handler = handler
        self._context = context
        self._home = home
        self._results = _ResultBuilder(held, context.attempt, max_result_bytes)

    def start(self, done: Done) -> None:
        """Call the handler."""
        context = contextvars.copy_context()
        # A daemon thread, so that a function that never returns does not keep the process alive.
        threading.Thread(target=context.run, args=(self._run, done), name=self.name, daemon=True).start()

    def stop(self) -> None:
        """Ask the handler to stop, through its context."""
        self._results.stopped = True
        self._context.stop()

    def _run(self, done: Done) -> None:
        called = False
        try:
            if self._results.stopped:
                raise asyncio.CancelledError
            called = True
            bind_log_context(command_id=self._context.command_id, attempt=self._context.attempt)
            result = self._results.completed(_plain(self._handler(self._context)))
        except BaseException as error:  # noqa: BLE001  # as above
            result = self._results.failed(error)
        stopped = self._context.noticed_stop or not called
        ended_at = self._context.finished_at or time.monotonic()
        self._home.post(partial(done, HandlerEnding(result, stopped, ended_at)))


def _plain(value: object) -> object:
    if isinstance(value, Awaitable):
        if inspect.iscoroutine(value):
            value.close()
        raise CommandFailed("handler_error", "a def handler returned an awaitable; declare it with async def")
    return value
