from __future__ import annotations

from collections.abc import Sequence

import pytest

from distributor.bridge.stored_output import MAX_READ_BYTES, stored_output
from distributor.dispatch.ports import OutputLog
from distributor.errors import Unavailable
from distributor.model.delivery import OutputChunk, OutputPiece, OutputRefusal, OutputStream

BOTH = frozenset(OutputStream)


class Log:
    """Chunks in memory, some at a time."""

    def __init__(self, chunks: list[OutputChunk], at_once: int = 1) -> None:
        self.chunks = chunks
        self._at_once = at_once
        self.largest = 0

    async def append(self, pieces: Sequence[OutputPiece]) -> list[int | OutputRefusal]:
        raise AssertionError("a download writes nothing")

    async def read(self, command_id: str, offset: int, most_bytes: int) -> list[OutputChunk]:
        self.largest = max(self.largest, most_bytes)
        return [chunk for chunk in self.chunks if chunk.offset >= offset][: self._at_once]


def chunks(*pieces: tuple[int, bytes], offset: int = 0) -> list[OutputChunk]:
    found = []
    for stream, data in pieces:
        found.append(OutputChunk(list(OutputStream)[stream - 1], offset, data, 0))
        offset += len(data)
    return found


async def read(log: Log, streams: frozenset[OutputStream] = BOTH) -> tuple[int, bytes]:
    begin, pieces = await stored_output(log, "c", streams)
    return begin, b"".join([piece async for piece in pieces])


@pytest.mark.parametrize("at_once", [1, 2, 9])
async def test_every_byte_in_order(at_once: int) -> None:
    log = Log(chunks((1, b"\xff\x00a"), (2, b"b\r\n"), (1, b"c")), at_once)
    assert await read(log) == (0, b"\xff\x00ab\r\nc")
    assert await read(log, frozenset({OutputStream.STDOUT})) == (0, b"\xff\x00ac")
    assert await read(log, frozenset({OutputStream.STDERR})) == (0, b"b\r\n")
    assert log.largest == MAX_READ_BYTES


async def test_nothing_printed() -> None:
    assert await read(Log([])) == (0, b"")


async def test_what_was_dropped_before_is_known_from_the_offset() -> None:
    assert await read(Log(chunks((1, b"rest"), offset=2048))) == (2048, b"rest")


async def test_what_is_dropped_meanwhile_breaks_it_off() -> None:
    log = Log(chunks((1, b"one"), (1, b"two"), (1, b"three")))
    _, pieces = await stored_output(log, "c", BOTH)
    assert await anext(pieces) == b"one"
    del log.chunks[:2]
    with pytest.raises(Unavailable, match="dropped while it was read, at byte 3"):
        await anext(pieces)


_: OutputLog = Log([])
