"""Continuing a watch: what of a reopened stream is new."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from distributor.client import CommandState, CommandStatus, OutputChunk, OutputGap, OutputStream, Receipts
from distributor.client.watching import WatchPosition

QUEUED = CommandState("c1", "a1", "EXEC", 50, CommandStatus.QUEUED, 0, Receipts())


def chunk(offset: int, data: bytes) -> OutputChunk:
    return OutputChunk("c1", OutputStream.STDOUT, offset, data)


def test_output_that_was_seen_is_cut_off() -> None:
    position = WatchPosition(0)

    assert position.advance(chunk(0, b"abc")) == chunk(0, b"abc")
    assert position.advance(chunk(0, b"abc")) is None
    assert position.advance(chunk(1, b"bcde")) == chunk(3, b"de")
    assert position.output_offset == 5


def test_a_gap_moves_on() -> None:
    position = WatchPosition(0)

    assert position.advance(OutputGap(0, 10)) == OutputGap(0, 10)
    assert position.output_offset == 10


def test_a_state_that_did_not_change_is_not_told_again() -> None:
    position = WatchPosition(0)
    changed = QUEUED._replace(status=CommandStatus.ASSIGNED)

    told = [position.advance(update) for update in (QUEUED, QUEUED, changed, changed)]

    assert told == [QUEUED, None, changed, None]


@given(st.binary(min_size=1, max_size=60), st.lists(st.tuples(st.integers(1, 7), st.integers(0, 60)), max_size=20))
def test_each_byte_comes_once_however_the_stream_is_cut(output: bytes, streams: list[tuple[int, int]]) -> None:
    """Each stream begins with a whole chunk at or before the position, as a server does, and ends anywhere."""
    position, seen = WatchPosition(0), b""
    for size, length in [*streams, (5, len(output))]:
        start = position.output_offset - position.output_offset % size
        for offset in range(start, min(start + length + size, len(output)), size):
            new = position.advance(chunk(offset, output[offset : offset + size]))
            seen += new.data if isinstance(new, OutputChunk) else b""

    while position.output_offset < len(output):
        new = position.advance(chunk(position.output_offset, output[position.output_offset :]))
        seen += new.data if isinstance(new, OutputChunk) else b""
    assert seen == output
