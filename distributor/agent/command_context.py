"""What a handler is given, and how it says how it went."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, NamedTuple

from distributor.agent.current_session import CurrentSession
from distributor.agent.output_window import OutputWindow
from distributor.model.command import MAX_REASON_MESSAGE, REASON_CODE_PATTERN
from distributor.model.delivery import OutputStream
from distributor.model.json_value import JsonValue
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.v1 import command_pb2
from distributor.wire.enums import STREAM_TO_WIRE
from distributor.wire.json_values import plain_struct

OutputStreamName = Literal["stdout", "stderr"]


class CommandFailed(Exception):
    """Raise it in a handler to end the command as failed, with a reason that programs can read.

    `code` is a word in lower_snake_case, `message` a sentence for people (cut at 1,024 characters). `transient` says
    that another try may succeed; whether there is one is decided by who queued the command.
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


class Completed(NamedTuple):
    """A handler may return this instead of a plain value, to give an exit code as well."""

    data: object = None
    exit_code: int | None = None


class CommandContext:
    """One command, as its handler sees it.

    To stop a handler (its time is over, it was cancelled, the agent leaves) its task is cancelled the asyncio way:
    clean up and let `CancelledError` pass. The command counts as running until the handler has really ended.
    """

    def __init__(self, assignment: gateway.Assignment, window: OutputWindow, session: CurrentSession) -> None:
        command = assignment.command
        self.command_id: str = command.command_id
        self.type: str = command.type
        self.params: Mapping[str, JsonValue] = plain_struct(command.params)
        self.attempt: int = assignment.attempt
        self.time_limit: float | None = _seconds(command)
        """Seconds it may run in all, None for no limit."""
        self._window = window
        self._session = session
        self._room = asyncio.Event()
        self._ended = False

    async def output(self, data: str | bytes, stream: OutputStreamName = "stdout") -> None:
        """Send output, live, in the order of the calls; text goes as UTF-8, bytes as they are.

        Waits while too much is under way that the server has not acknowledged, also while there is no connection.
        Raises RuntimeError once the handler has ended.
        """
        rest = memoryview(data.encode("utf-8", "replace") if isinstance(data, str) else data)
        kind = STREAM_TO_WIRE[OutputStream(stream)]
        while rest:
            if self._ended:
                raise RuntimeError(f"command {self.command_id} has ended, it takes no more output")
            room = self._window.room(self._session.output_limit)
            if room:
                self._window.append(kind, bytes(rest[:room]))
                self._session.output_written(self.command_id)
                rest = rest[room:]
            else:
                self._room.clear()
                await self._room.wait()

    def output_room(self) -> None:
        """The server acknowledged output; called by the runtime."""
        self._room.set()

    def end(self) -> None:
        """The handler has ended; called by the runtime."""
        self._ended = True
        self._room.set()


Handler = Callable[[CommandContext], Awaitable[object]]
"""Runs one command. What it returns is the result's data: any JSON value, or `Completed`."""


def _seconds(command: command_pb2.Command) -> float | None:
    limit = command.time_limit
    return limit.seconds + limit.nanos / 1e9 if command.HasField("time_limit") else None
