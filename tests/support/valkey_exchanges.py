"""The exchanges with Valkey that one caller's requests cause, without those of others and of background loops."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias
from unittest.mock import patch

from distributor.rpc.current_caller import current_caller
from distributor.store.pipelined_connection import PipelinedConnection
from distributor.store.valkey_connection import Argument, ValkeyConnection

Exchange: TypeAlias = tuple[tuple[str, ...], ...]
"""Commands that were sent together, each as texts."""


class Exchanges(list[Exchange]):
    """What was sent, in order, and the number of bytes in the replies."""

    replied_bytes = 0


@contextmanager
def exchanges_of(subject: str) -> Iterator[Exchanges]:
    """The exchanges of all servers and bridges in this process, from here on, for the caller with this subject.

    A task inherits the caller from the one that made it, so what a request starts counts as well.
    """
    found = Exchanges()

    def note(commands: Sequence[Sequence[Argument]]) -> bool:
        caller = current_caller()
        counts = subject in (caller.on_behalf_of, caller.subject)
        if counts:
            found.append(tuple(tuple(map(_text, command)) for command in commands))
        return counts

    call, calls, submit = ValkeyConnection.call, ValkeyConnection.calls, PipelinedConnection.submit

    async def noted_call(self: ValkeyConnection, *arguments: Argument) -> Any:
        counts, reply = note([arguments]), await call(self, *arguments)
        found.replied_bytes += counts * _size(reply)
        return reply

    async def noted_calls(self: ValkeyConnection, commands: Sequence[tuple[Argument, ...]]) -> Any:
        counts, replies = note(commands), await calls(self, commands)
        found.replied_bytes += counts * _size(replies)
        return replies

    def noted_submit(self: PipelinedConnection, commands: Sequence[tuple[Argument, ...]]) -> asyncio.Future[list[Any]]:
        counts, replies = note(commands), submit(self, commands)

        def add(done: asyncio.Future[list[Any]]) -> None:
            found.replied_bytes += counts * _size(done.result())

        replies.add_done_callback(add)
        return replies

    with ExitStack() as stack:
        stack.enter_context(patch.object(ValkeyConnection, "call", noted_call))
        stack.enter_context(patch.object(ValkeyConnection, "calls", noted_calls))
        stack.enter_context(patch.object(PipelinedConnection, "submit", noted_submit))
        yield found


def shapes(exchanges: Sequence[Exchange], *ids: str) -> list[Exchange]:
    """The exchanges with each of the ids, and the empty id of an agent, replaced by the same word."""
    return [tuple(tuple(_without(part, ids) for part in command) for command in exchange) for exchange in exchanges]


def _without(text: str, ids: Sequence[str]) -> str:
    for one in ids:
        text = text.replace(one, "ID")
    return text.replace("agent::", "agent:ID:")


def _text(argument: Argument) -> str:
    return argument.decode(errors="backslashreplace") if isinstance(argument, bytes) else str(argument)


def _size(reply: Any) -> int:
    return sum(map(_size, reply)) if isinstance(reply, list) else len(reply) if isinstance(reply, bytes) else 1
