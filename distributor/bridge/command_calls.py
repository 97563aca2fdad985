"""What dashboards may change, asked of the server; errors come back in the words of the dashboards' messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from distributor.bridge.requests import Interrupt, Queue
from distributor.client import Command, CommandClient, CommandRequest, QueuedCommand
from distributor.errors import DistributorError

_FIELDS: Final = {
    "agent_id": "agentId",
    "type": "commandType",
    "priority": "priority",
    "time_limit": "timeLimitSeconds",
    "queue_ttl": "queueTtlSeconds",
    "command_id": "commandId",
    "idempotency_key": "idempotencyKey",
}


class CommandCalls:
    """Calls the server over gRPC."""

    def __init__(self, client: CommandClient) -> None:
        self._client = client

    async def queue(self, request: Queue) -> QueuedCommand:
        """Queue a command."""
        with _in_their_words():
            return await self._client.queue(
                CommandRequest(
                    request.agent_id,
                    request.type,
                    request.params,
                    priority=request.priority,
                    time_limit_seconds=request.time_limit_seconds,
                    queue_ttl_seconds=request.queue_ttl_seconds,
                    offline=request.offline,
                    idempotency_key=request.idempotency_key,
                )
            )

    async def cancel(self, request: Interrupt) -> None:
        """Ask for the end of a command."""
        with _in_their_words():
            await self._client.cancel(request.command_id, request.reason)

    async def get(self, command_id: str) -> Command:
        """A command with its params."""
        with _in_their_words():
            return await self._client.get(command_id)


@contextmanager
def _in_their_words() -> Iterator[None]:
    try:
        yield
    except DistributorError as error:
        theirs = error.field
        first, dot, rest = theirs.removeprefix("command.").partition(".")
        error.field = _FIELDS.get(first, first) + dot + rest
        if theirs and error.message.startswith(theirs):
            error.message = error.field + error.message.removeprefix(theirs)
        raise
