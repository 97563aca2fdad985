"""A command that a test has queued, and how it ended."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from distributor.client import CommandClient, CommandResult, CommandStatus, JsonValue, OutputChunk, OutputStream, Reason
from distributor.testing.loop_thread import LoopThread

PATIENCE_SECONDS: Final = 30.0
"""How long to wait for a command to end, unless the test says otherwise."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended, with its output as text."""

    result: CommandResult
    stdout: str
    stderr: str

    @property
    def status(self) -> CommandStatus:
        """The status, which equals its name, such as "completed"."""
        return self.result.status

    @property
    def data(self) -> JsonValue:
        """What the handler returned."""
        return self.result.data

    @property
    def reason(self) -> Reason:
        """Why it did not complete: a code and a message, empty if it did."""
        return self.result.reason


class RunningCommand:
    """A queued command. Its methods may be called from any thread; those that end in `_async` belong to a coroutine."""

    def __init__(self, command_id: str, client: CommandClient, loop: LoopThread) -> None:
        self.command_id = command_id
        self._client = client
        self._loop = loop

    def wait(self, timeout: float = PATIENCE_SECONDS) -> Outcome:
        """Wait until the command has ended. Raises TimeoutError after `timeout` seconds."""
        return self._loop.run(self._outcome(timeout))

    async def wait_async(self, timeout: float = PATIENCE_SECONDS) -> Outcome:
        """Wait like `wait`, without blocking the caller's event loop."""
        return await asyncio.wrap_future(self._loop.submit(self._outcome(timeout)))

    def wait_for_output(self, text: str, timeout: float = PATIENCE_SECONDS) -> None:
        """Wait until the command has printed `text`. Raises TimeoutError after `timeout` seconds or at its end."""
        self._loop.run(self._printed(text.encode(), timeout))

    def cancel(self, reason: str = "") -> None:
        """Cancel the command. It ends once its handler has stopped."""
        self._loop.run(self._client.cancel(self.command_id, reason))

    async def _outcome(self, timeout: float) -> Outcome:
        result: CommandResult | None = None
        printed = {OutputStream.STDOUT: bytearray(), OutputStream.STDERR: bytearray()}
        async for update in self._client.watch(self.command_id, timeout_seconds=timeout):
            if isinstance(update, OutputChunk):
                printed[update.stream] += update.data
            elif isinstance(update, CommandResult):
                result = update
        assert result is not None, "a watch ends with a result or an error"
        texts = (printed[stream].decode(errors="replace") for stream in (OutputStream.STDOUT, OutputStream.STDERR))
        return Outcome(result, *texts)

    async def _printed(self, text: bytes, timeout: float) -> None:
        printed = b""
        async with aclosing(self._client.watch(self.command_id, timeout_seconds=timeout)) as updates:
            async for update in updates:
                if isinstance(update, OutputChunk):
                    printed += update.data
                    if text in printed:
                        return
        raise TimeoutError(f"the command ended without printing {text.decode()!r}; it printed {printed!r}")
