"""Streams the stored output of one command for download."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

from distributor.dispatch.ports import OutputLog
from distributor.errors import Unavailable
from distributor.model.delivery import OutputChunk, OutputStream

MAX_READ_BYTES: Final = 65_536


class StoredOutput(NamedTuple):
    """`begin` is the offset of the first stored byte; `pieces` are the requested streams in order."""

    begin: int
    pieces: AsyncIterator[bytes]


async def stored_output(log: OutputLog, command_id: str, streams: frozenset[OutputStream]) -> StoredOutput:
    """The stored output of `streams`, up to its current end. Buffers one read at a time.

    `pieces` raises Unavailable if the store drops output before it is read, so that no bytes are silently missing.
    """
    chunks = await log.read(command_id, 0, MAX_READ_BYTES)
    return StoredOutput(chunks[0].offset if chunks else 0, _pieces(log, command_id, streams, chunks))


async def _pieces(
    log: OutputLog, command_id: str, streams: frozenset[OutputStream], chunks: Sequence[OutputChunk]
) -> AsyncIterator[bytes]:
    end = chunks[0].offset if chunks else 0
    while chunks:
        for chunk in chunks:
            if chunk.offset != end:
                raise Unavailable(f"output of {command_id} was dropped while it was read, at byte {end:,}")
            end += len(chunk.data)
            if chunk.stream in streams:
                yield chunk.data
        chunks = await log.read(command_id, end, MAX_READ_BYTES)
