"""Calls the server for dashboards and queues pending calls. Errors name fields as in dashboard messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, Generic, TypeVar

from distributor.bridge.requests import Interrupt, Queue, Resume, Retry, Stop
from distributor.client import Command, CommandClient, QueuedCommand
from distributor.errors import DistributorError, ResourceExhausted
from distributor.model.audit_filter import AuditFilter
from distributor.model.audit_listing import AuditPage

MAX_PENDING: Final = 1_000
MAX_PENDING_BYTES: Final = 4_194_304
_FIELDS: Final = {
    "agent_id": "agentId",
    "type": "commandType",
    "priority": "priority",
    "time_limit": "timeLimitSeconds",
    "idle_limit": "idleLimitSeconds",
    "queue_ttl": "queueTtlSeconds",
    "max_runs": "maxRuns",
    "max_runs_by_reason": "maxRunsByReason",
    "slots": "slots",
    "secret_params": "secretParams",
    "command_id": "commandId",
    "idempotency_key": "idempotencyKey",
}

R = TypeVar("R")


class CommandCalls:
    """Calls the server over gRPC, with the bridge's credential alone; `of_user` calls on behalf of a user."""

    def __init__(self, client: CommandClient) -> None:
        self._client = client

    @asynccontextmanager
    async def of_user(self, token: Callable[[], str], address: str) -> AsyncGenerator[CommandCalls, None]:
        """Calls on behalf of the user whose current token `token` returns, at `address`.

        The server permits what the user may do.
        """
        async with self._client.on_behalf_of(token, address) as client:
            yield CommandCalls(client)

    async def queue(self, request: Queue) -> QueuedCommand:
        """Queue a command."""
        with _message_field_names():
            return await self._client.queue(request.command)

    async def retry(self, request: Retry) -> str:
        """Queue an ended command again; returns the id of the new one."""
        with _message_field_names():
            retries = await self._client.retry_commands([request.command_id], idempotency_key=request.idempotency_key)
            (retried,) = retries.commands
            if isinstance(retried.outcome, DistributorError):
                raise retried.outcome
            return retried.outcome

    async def cancel(self, request: Interrupt) -> None:
        """Cancel a command."""
        with _message_field_names():
            await self._client.cancel(request.command_id, request.reason)

    async def stop(self, request: Stop) -> None:
        """Stop agents in an emergency."""
        await self._client.emergency().stop(request.scope, request.reason)

    async def resume(self, request: Resume) -> None:
        """End an emergency stop."""
        await self._client.emergency().resume(request.stop_id)

    async def audit_page(self, wanted: AuditFilter, token: str, size: int) -> AuditPage:
        """Read a page of the audit trail, which is for administrators."""
        return await self._client.audit().page(wanted, token, size)

    async def get(self, command_id: str) -> Command:
        """Read a command with its params."""
        with _message_field_names():
            return await self._client.get(command_id)


class PendingCalls(Generic[R]):
    """A bounded FIFO queue of one dashboard's requests of one kind.

    Rejects requests beyond the limit. Pausing reads instead would leave pongs unread and drop a live dashboard.
    """

    def __init__(self) -> None:
        self._pending: asyncio.Queue[tuple[R, int]] = asyncio.Queue()
        self._size = 0

    def put(self, request: R, size: int) -> None:
        """Add a request received as `size` bytes. Raises ResourceExhausted."""
        if self._pending.qsize() >= MAX_PENDING:
            raise _too_many(f"the limit of {MAX_PENDING:,} pending requests is reached")
        if self._size + size > MAX_PENDING_BYTES:
            raise _too_many(f"the limit of {MAX_PENDING_BYTES // 1_048_576} MiB of pending requests is reached")
        self._size += size
        self._pending.put_nowait((request, size))

    async def get(self) -> R:
        """Wait for the oldest request."""
        request, size = await self._pending.get()
        self._size -= size
        return request


def _too_many(what: str) -> ResourceExhausted:
    return ResourceExhausted(f"{what}; retry when some are answered", reason="TOO_MANY_REQUESTS")


@contextmanager
def _message_field_names() -> Iterator[None]:
    try:
        yield
    except DistributorError as error:
        field = error.field
        first, dot, rest = field.removeprefix("command.").partition(".")
        error.field = _FIELDS.get(first, first) + dot + rest
        if field and error.message.startswith(field):
            error.message = error.field + error.message.removeprefix(field)
        raise
