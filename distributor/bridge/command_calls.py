"""Calls to the server for dashboards, and the calls that wait. Errors name fields as the dashboards' messages do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Generic, TypeVar

from distributor.bridge.requests import Interrupt, Queue
from distributor.client import Command, CommandClient, QueuedCommand
from distributor.errors import DistributorError, ResourceExhausted

MAX_WAITING: Final = 1_000
MAX_WAITING_BYTES: Final = 4_194_304
_FIELDS: Final = {
    "agent_id": "agentId",
    "type": "commandType",
    "priority": "priority",
    "time_limit": "timeLimitSeconds",
    "queue_ttl": "queueTtlSeconds",
    "command_id": "commandId",
    "idempotency_key": "idempotencyKey",
}

R = TypeVar("R")


class CommandCalls:
    """Calls the server over gRPC."""

    def __init__(self, client: CommandClient) -> None:
        self._client = client

    async def queue(self, request: Queue) -> QueuedCommand:
        """Queue a command."""
        with _named_as_in_messages():
            return await self._client.queue(request.command)

    async def cancel(self, request: Interrupt) -> None:
        """Cancel a command."""
        with _named_as_in_messages():
            await self._client.cancel(request.command_id, request.reason)

    async def get(self, command_id: str) -> Command:
        """A command with its params."""
        with _named_as_in_messages():
            return await self._client.get(command_id)


class WaitingCalls(Generic[R]):
    """The requests of one kind of one dashboard that wait, in order and bounded.

    Beyond the bound they are refused. Not reading instead would leave pongs unread, and the dashboard taken for dead.
    """

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[tuple[R, int]] = asyncio.Queue()
        self._size = 0

    def put(self, request: R, size: int) -> None:
        """Add a request that came as `size` bytes. Raises ResourceExhausted."""
        if self._waiting.qsize() >= MAX_WAITING:
            raise _too_many(f"{MAX_WAITING:,} requests wait, the limit")
        if self._size + size > MAX_WAITING_BYTES:
            raise _too_many(f"requests of {MAX_WAITING_BYTES // 1_048_576} MiB wait, the limit")
        self._size += size
        self._waiting.put_nowait((request, size))

    async def get(self) -> R:
        """Wait for the oldest request."""
        request, size = await self._waiting.get()
        self._size -= size
        return request


def _too_many(what: str) -> ResourceExhausted:
    return ResourceExhausted(f"{what}; send it again when some are answered", reason="TOO_MANY_REQUESTS")


@contextmanager
def _named_as_in_messages() -> Iterator[None]:
    try:
        yield
    except DistributorError as error:
        theirs = error.field
        first, dot, rest = theirs.removeprefix("command.").partition(".")
        error.field = _FIELDS.get(first, first) + dot + rest
        if theirs and error.message.startswith(theirs):
            error.message = error.field + error.message.removeprefix(theirs)
        raise
