"""What a handler receives, and how it reports its outcome."""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Final, Literal, NamedTuple

from distributor.agent.current_session import CurrentSession
from distributor.agent.output_window import OutputWindow
from distributor.model.command import MAX_DURATION_MS, MAX_REASON_MESSAGE, REASON_CODE_PATTERN
from distributor.model.delivery import OutputStream
from distributor.model.json_value import JsonValue
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.wire.enums import STREAM_TO_WIRE
from distributor.wire.json_values import plain_struct
from distributor.wire.times import bounded_seconds

OutputStreamName = Literal["stdout", "stderr"]

MAX_TIME_LIMIT_SECONDS: Final = MAX_DURATION_MS / 1_000


class CommandFailed(Exception):
    """Raise it in a handler to end the command as failed, with a reason that programs can read.

    `code` is a word in lower_snake_case, `message` a sentence for people (cut at 1,024 characters). `transient` says
    that another run may succeed; `max_runs` of the command decides whether there is one.
    """

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        exit_code: int | None = None,
        data: object = None,
        transient: bool = False,
    ) -> None:
        if not REASON_CODE_PATTERN.fullmatch(code):
            raise ValueError(f"a reason code must be lower_snake_case of at most 64 characters, not {code!r}")
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message[:MAX_REASON_MESSAGE]
        self.exit_code = exit_code
        self.data = data
        self.transient = transient


class CommandStopped(BaseException):
    """Raised in a `def` handler by `output()` and `sleep()` to stop the command: clean up and let it propagate."""


class Completed(NamedTuple):
    """A return value of a handler that includes an exit code."""

    data: object = None
    exit_code: int | None = None


class _Context(ABC):
    """The common part of both contexts: the command, and its output.

    Created on the connection's loop; handlers use it on their own loop or thread.
    """

    def __init__(self, assignment: gateway.Assignment, window: OutputWindow, session: CurrentSession) -> None:
        command = assignment.command
        self.command_id: str = command.command_id
        self.type: str = command.type
        self.attempt: int = assignment.attempt
        self.time_limit: float | None = bounded_seconds(command.time_limit) if command.HasField("time_limit") else None
        """Time limit of the run in seconds, including extensions; None for no limit."""
        self.idle_limit: float | None = bounded_seconds(command.idle_limit) if command.HasField("idle_limit") else None
        """Maximum time without output or `progress()`, in seconds; None for no limit."""
        self.survivors: Callable[[], Sequence[gateway.SurvivingProcess]] = tuple
        """Lists what still runs of a command that does not stop; set by handlers that start processes."""
        self.run_id = ""
        """In the environment of its programs, so that they are found after a crash; set by the runtime."""
        self.on_extend: Callable[[str, float], None] = lambda command_id, limit: None
        """Called on any thread with the command id and its new time limit in seconds; set by the runtime."""
        self.on_program: Callable[[str, int], None] = lambda command_id, pid: None
        """Called on the connection's loop with the command id and the process id of its program, which leads a process
        group; set by the runtime."""
        self.finished_at: float | None = None
        """When the handler's work was done, by `time.monotonic`; None before that."""
        self.started_at = self._last_sign = time.monotonic()
        self._params = command.params
        self._secret_params = tuple(command.secret_params)
        self._window = window
        self._session = session

    @cached_property
    def params(self) -> Mapping[str, JsonValue]:
        """The command's params. Decoded where the handler runs, because large ones take time."""
        return plain_struct(self._params)

    @property
    def secret_params(self) -> Sequence[str]:
        """JSON pointers of params that are secret, such as `/password`: do not log or print them."""
        return self._secret_params

    def progress(self) -> None:
        """Report a sign of life, as output does: the command's `idle_limit` counts from the latest. Thread-safe."""
        self._last_sign = time.monotonic()

    def extend(self, seconds: float) -> None:
        """Allow the run at least `seconds` more from now, at most 30 days from its start. Thread-safe.

        Never shortens the time limit. Has no effect once the limit has passed. Raises ValueError unless `seconds` is
        positive.
        """
        if not seconds > 0:
            raise ValueError(f"a run is extended by more than 0 seconds, not {seconds:g}")
        limit = min(time.monotonic() - self.started_at + seconds, MAX_TIME_LIMIT_SECONDS)
        if self.time_limit is not None and limit > self.time_limit:
            self.time_limit = limit
            self.on_extend(self.command_id, limit)

    def finished(self, at: float | None = None) -> None:
        """Note that the work is done and only its report remains: a later request to stop does not change its outcome.

        `at` is when, by `time.monotonic`; None means now. Still return, or raise CommandFailed, when such a request
        interrupts the report.
        """
        self.finished_at = time.monotonic() if at is None else at

    def silence(self) -> float:
        """Seconds since the last sign of life, or the start. A handler whose output waits for room is not silent."""
        if not self._window.room(self._session.output_limit):
            self._last_sign = time.monotonic()
        return time.monotonic() - self._last_sign

    @abstractmethod
    def notify_room(self) -> None:
        """Wake a handler that waits for room for output; called by the runtime."""

    def end(self) -> None:
        """Accept no more output; called by the runtime."""
        self._window.close()
        self.notify_room()

    def _write(self, data: memoryview, stream: OutputStreamName) -> int:
        """Write as much as there is room for; return how much."""
        self._last_sign = time.monotonic()
        try:
            written = self._window.write(STREAM_TO_WIRE[OutputStream(stream)], data, self._session.output_limit)
        except ValueError as error:
            raise RuntimeError(f"command {self.command_id} has ended, it takes no more output") from error
        if written:
            self._session.output_written(self.command_id)
        return written


class CommandContext(_Context):
    """The context of an `async def` handler.

    To stop a handler (time limit, cancel, the agent leaves), its task is cancelled: clean up and let `CancelledError`
    propagate. The command counts as running until the handler has ended. If that takes longer than the agent's
    `stop_grace`, a cancel is reported as one that could not stop it; after any other request the command fails as
    `would_not_stop`.
    """

    def __init__(
        self,
        assignment: gateway.Assignment,
        window: OutputWindow,
        session: CurrentSession,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Create a context for a handler that runs on `loop`; None means the current loop."""
        super().__init__(assignment, window, session)
        self._loop = loop
        self._room = asyncio.Event()
        self._writing = 0
        """Calls of `output` that have not returned; changed only on the handler's loop."""

    def move(self, loop: asyncio.AbstractEventLoop) -> None:
        """The handler will run on another loop; called by the runtime before it does."""
        self._loop = loop

    async def output(self, data: str | bytes, stream: OutputStreamName = "stdout") -> None:
        """Send output live, in order; text is encoded as UTF-8.

        Waits while too much output is unacknowledged, also while there is no connection. Raises RuntimeError once the
        handler has ended.
        """
        rest = _bytes(data)
        self._writing += 1
        try:
            while rest:
                # Clear first, so that room made from here on is noticed.
                self._room.clear()
                written = self._write(rest, stream)
                rest = rest[written:]
                if not written:
                    await self._room.wait()
        finally:
            self._writing -= 1

    def notify_room(self) -> None:
        """Wake a handler that waits for room for output; called by the runtime."""
        if not self._writing:
            # Nothing waits. A call from here on finds the room, or the end of the command.
            return
        if self._loop is None:
            self._room.set()
        else:
            # If the handlers' loop is closed, nothing waits any more.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._room.set)


class BlockingContext(_Context):
    """The context of a `def` handler, which runs in a worker thread.

    A thread cannot be stopped from outside. When the command must stop, `stopping` is true and `output()` and `sleep()`
    raise CommandStopped; use one of them regularly. A handler that takes longer than the agent's `stop_grace` to stop
    is treated like a coroutine that does.
    """

    def __init__(self, assignment: gateway.Assignment, window: OutputWindow, session: CurrentSession) -> None:
        super().__init__(assignment, window, session)
        self._stopped = threading.Event()
        self._room = threading.Event()
        self.noticed_stop = False
        """Whether the handler has learnt that the command must stop."""

    @property
    def stopping(self) -> bool:
        """Whether the command must stop."""
        self.noticed_stop = self._stopped.is_set()
        return self.noticed_stop

    def sleep(self, seconds: float) -> None:
        """Wait. Raises CommandStopped as soon as the command must stop."""
        self._stopped.wait(seconds)
        self._raise_if_stopped()

    def _raise_if_stopped(self) -> None:
        if self.stopping:
            raise CommandStopped

    def output(self, data: str | bytes, stream: OutputStreamName = "stdout") -> None:
        """Send output like `CommandContext.output`. Raises CommandStopped when the command must stop."""
        rest = _bytes(data)
        while rest:
            self._raise_if_stopped()
            self._room.clear()
            written = self._write(rest, stream)
            rest = rest[written:]
            if not written and not self._stopped.is_set():
                self._room.wait()

    def notify_room(self) -> None:
        """Wake a handler that waits for room for output; called by the runtime."""
        self._room.set()

    def stop(self) -> None:
        """Ask the handler to stop; called by the runtime."""
        self._stopped.set()
        self._room.set()


Handler = Callable[[CommandContext], Awaitable[object]]
"""A coroutine handler, run on the handlers' loop. Returns the result's data: any JSON value, or `Completed`."""

BlockingHandler = Callable[[BlockingContext], object]
"""A handler as a plain function, run in a worker thread."""

AnyHandler = Handler | BlockingHandler


def _bytes(data: str | bytes) -> memoryview:
    return memoryview(data.encode("utf-8", "replace") if isinstance(data, str) else data)
