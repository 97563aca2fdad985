"""The stored output of one command as a stream of bytes, for downloads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

from distributor.dispatch.ports import OutputLog
from distributor.errors import Unavailable
from distributor.model.delivery import StoredChunk

BYTES_IN_A_READ: Final = 65_536
STREAMS: Final = {"stdout": 1, "stderr": 2}


class StoredOutput(NamedTuple):
    """`begin` is the offset of the first byte kept; `pieces` are those of the wanted streams, in order."""

    begin: int
    pieces: AsyncIterator[bytes]


async def stored_output(log: OutputLog, command_id: str, streams: frozenset[int]) -> StoredOutput:
    """What is stored of `streams`, up to its end at the time of reading. Holds one read at a time.

    `pieces` raises Unavailable if the store drops output before it was read: the rest would not be what was printed.
    """
    chunks = await log.read(command_id, 0, BYTES_IN_A_READ)
    return StoredOutput(chunks[0].offset if chunks else 0, _pieces(log, command_id, streams, chunks))


async def _pieces(
    log: OutputLog, command_id: str, streams: frozenset[int], chunks: Sequence[StoredChunk]
) -> AsyncIterator[bytes]:
    end = chunks[0].offset if chunks else 0
    while chunks:
        for chunk in chunks:
            if chunk.offset != end:
                raise Unavailable(f"output of {command_id} was dropped while it was read, at byte {end:,}")
            end += len(chunk.data)
            if chunk.stream in streams:
                yield chunk.data
        chunks = await log.read(command_id, end, BYTES_IN_A_READ)
