"""Questions and answers between a process and its child, over a pair of sockets that only they have."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from distributor import errors
from distributor.errors import DistributorError, Unavailable
from distributor.tasks import stop_tasks

Answer = Callable[[dict[str, Any]], Awaitable[Any]]
"""Receives the details of a question, returns a value for JSON. A DistributorError reaches the process that asked."""

_MAX_LINE_BYTES: Final = 256 * 1_024 * 1_024
"""Both ends trust each other: a bound against mistakes only."""


class ProcessEnded(Unavailable):
    """The other process has ended, or closed its end."""


class ProcessChannel:
    """Each message is a line of JSON. Both ends may ask at any time; answers come in any order.

    Use it on one event loop. `run` reads until the other process closes its end, or has ended.
    """

    def __init__(self, end: socket.socket, answers: Mapping[str, Answer]) -> None:
        """`answers` has what answers each question, by its name. The channel owns `end`."""
        self._end = end
        self._answers = answers
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._writer: asyncio.StreamWriter | None = None
        self._reader: asyncio.StreamReader | None = None

    async def open(self) -> None:
        """Prepare to send. Call first."""
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._end, limit=_MAX_LINE_BYTES)

    async def run(self) -> None:
        """Answer until the other end closes. Questions that are open by then fail with ProcessEnded."""
        assert self._reader is not None
        try:
            while line := await self._reader.readline():
                self._receive(json.loads(line))
        except ConnectionError:
            pass
        finally:
            await self._close()

    async def ask(self, question: str, **details: Any) -> Any:
        """Return the answer. Raises the DistributorError that it is, and ProcessEnded if the process ends first."""
        number = next(self._numbers)
        self._asked[number] = future = asyncio.get_running_loop().create_future()
        try:
            self._send({"ask": question, "number": number, "with": details})
            return await future
        finally:
            self._asked.pop(number, None)

    def tell(self, what: str, **details: Any) -> None:
        """Send something that has no answer. Does nothing if the other process has ended."""
        try:
            self._send({"ask": what, "with": details})
        except ProcessEnded:
            return

    def _send(self, message: dict[str, Any]) -> None:
        if self._writer is None or self._writer.is_closing():
            raise _ended()
        self._writer.write(json.dumps(message).encode() + b"\n")

    def _receive(self, message: dict[str, Any]) -> None:
        if "ask" in message:
            task = asyncio.create_task(self._answer(message), name=f"answer {message['ask']}")
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
            return
        future = self._asked.get(message["number"])
        if future is None or future.done():
            return
        if "error" in message:
            future.set_exception(error_from(message["error"]))
        else:
            future.set_result(message["value"])

    async def _answer(self, message: dict[str, Any]) -> None:
        reply: dict[str, Any] = {"number": message.get("number")}
        try:
            reply["value"] = await self._answers[message["ask"]](message["with"])
        except DistributorError as error:
            reply["error"] = error_document(error)
        if reply["number"] is not None and self._writer is not None and not self._writer.is_closing():
            self._send(reply)

    async def _close(self) -> None:
        for future in self._asked.values():
            if not future.done():
                future.set_exception(_ended())
        if self._writer is not None:
            self._writer.close()
        await stop_tasks(self._answering)


def error_document(error: DistributorError) -> dict[str, Any]:
    """Return an error as JSON."""
    return {
        "kind": type(error).__name__,
        "message": error.message,
        "reason": error.reason,
        "field": error.field,
        "metadata": error.metadata,
        "retry_after_seconds": error.retry_after_seconds,
    }


def error_from(document: dict[str, Any]) -> DistributorError:
    """Return the error of `error_document`."""
    details = dict(document)
    kind: type[DistributorError] = getattr(errors, details.pop("kind"), DistributorError)
    return kind(details.pop("message"), **details)


def _ended() -> ProcessEnded:
    return ProcessEnded("the process has ended")
