"""Connections to Valkey that note what is sent over them and what is replied."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, TypeAlias

from distributor.store.connections import StoreConnections
from distributor.store.pipelined_connection import PipelinedConnection
from distributor.store.valkey_connection import Argument, ValkeyConnection

Log: TypeAlias = list[tuple[Sequence[Argument], Any]]
"""Commands and their replies, in order."""


def recording_connections(url: str, log: Log) -> StoreConnections:
    """Connections to the Valkey at `url` that append to `log`; the one for the event log does not."""
    return StoreConnections(
        _RecordingPipeline(url, log), _RecordingConnection(url, log), ValkeyConnection(url), PipelinedConnection(url)
    )


class _RecordingPipeline(PipelinedConnection):
    def __init__(self, url: str, log: Log) -> None:
        super().__init__(url)
        self._log = log

    def submit(self, commands: Sequence[tuple[Argument, ...]]) -> asyncio.Future[list[Any]]:
        replies = super().submit(commands)
        replies.add_done_callback(partial(self._note, commands))
        return replies

    def _note(self, commands: Sequence[tuple[Argument, ...]], replies: asyncio.Future[list[Any]]) -> None:
        self._log.extend(zip(commands, replies.result(), strict=True))


class _RecordingConnection(ValkeyConnection):
    def __init__(self, url: str, log: Log) -> None:
        super().__init__(url)
        self._log = log

    async def call(self, *arguments: Argument) -> Any:
        reply = await super().call(*arguments)
        self._log.append((arguments, reply))
        return reply

    async def calls(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        replies = await super().calls(commands)
        self._log.extend(zip(commands, replies, strict=True))
        return replies
