from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from distributor.agent.output_window import COALESCE_BYTES, MAX_CHUNKS, Chunk, OutputWindow
from distributor.v1 import command_pb2

OUT = command_pb2.OUTPUT_STREAM_STDOUT
ERR = command_pb2.OUTPUT_STREAM_STDERR


def everything(window: OutputWindow, most: int = 65_536) -> list[tuple[int, bytes]]:
    """All that the window has to send now."""
    chunks = iter(lambda: window.take(most), None)
    return [(chunk.offset, chunk.data) for chunk in chunks]


def test_small_neighbours_of_one_stream_become_one_chunk() -> None:
    window = OutputWindow()
    window.append(OUT, b"ab")
    window.append(OUT, b"cd")
    window.append(ERR, b"ef")
    assert everything(window) == [(0, b"abcd"), (4, b"ef")]


def test_a_chunk_that_was_sent_does_not_grow() -> None:
    window = OutputWindow()
    window.append(OUT, b"ab")
    assert everything(window) == [(0, b"ab")]
    window.append(OUT, b"cd")
    assert everything(window) == [(2, b"cd")]


def test_large_neighbours_stay_apart() -> None:
    window = OutputWindow()
    window.append(OUT, b"a" * COALESCE_BYTES)
    window.append(OUT, b"b")
    assert [offset for offset, _ in everything(window)] == [0, COALESCE_BYTES]


def test_chunks_are_cut_to_the_size_asked_for() -> None:
    window = OutputWindow()
    window.append(OUT, b"abcde")
    assert everything(window, most=2) == [(0, b"ab"), (2, b"cd"), (4, b"e")]


def test_room_shrinks_with_what_is_unacknowledged() -> None:
    window = OutputWindow()
    window.append(OUT, b"abcd")
    assert window.room(limit=6) == 2
    window.acknowledge(3)
    assert window.room(limit=6) == 5
    assert window.room(limit=0) == 0


def test_many_tiny_chunks_leave_no_room() -> None:
    window = OutputWindow()
    for _ in range(MAX_CHUNKS // 2):
        window.append(OUT, b"a")
        window.append(ERR, b"b")
    assert window.room(limit=1_000_000) == 0


def test_a_new_stream_gets_everything_unacknowledged_again() -> None:
    window = OutputWindow()
    window.append(OUT, b"abcd")
    window.append(ERR, b"efgh")
    everything(window)
    window.rewind(6)
    assert everything(window) == [(6, b"gh")]


def test_what_was_acknowledged_cannot_be_sent_again() -> None:
    window = OutputWindow()
    window.append(OUT, b"abcd")
    everything(window)
    window.acknowledge(2)
    window.rewind(0)
    assert everything(window) == [(2, b"cd")]


def test_offsets_that_make_no_sense_are_ignored() -> None:
    window = OutputWindow()
    window.append(OUT, b"abcd")
    window.acknowledge(99)
    window.acknowledge(-1)
    assert (window.acknowledged, window.written) == (0, 4)


def test_no_more_is_sent_than_may_be_unacknowledged() -> None:
    window = OutputWindow()
    window.append(OUT, b"abcdef")
    assert window.sendable(limit=4) == 4
    assert window.take(window.sendable(limit=4)) == Chunk(OUT, 0, b"abcd")
    assert window.sendable(limit=4) == 0
    assert window.take(0) is None
    assert window.unsent
    window.acknowledge(1)
    assert window.sendable(limit=4) == 1
    assert window.sendable(limit=2) == 0
    window.rewind(0)
    assert window.sendable(limit=2) == 2


def test_refused_output_is_kept_for_the_next_lease() -> None:
    window = OutputWindow()
    window.append(OUT, b"abcd")
    window.take(2)
    window.suspend()
    window.append(OUT, b"ef")
    assert (window.unsent, window.take(9), window.room(limit=10)) == (False, None, 4)
    window.rewind(0)
    assert b"".join(data for _, data in everything(window)) == b"abcdef"


def test_output_that_nobody_wants_is_discarded_as_it_comes() -> None:
    window = OutputWindow()
    window.append(OUT, b"abcd")
    window.take(2)
    window.discard()
    assert window.write(OUT, memoryview(b"xyz" * 10), 6) == 6
    assert (window.unsent, window.written, window.room(limit=6)) == (False, 10, 6)
    window.rewind(0)
    assert everything(window) == []


steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.sampled_from([OUT, ERR]), st.binary(min_size=1, max_size=9)),
        st.tuples(st.just("take"), st.integers(1, 7)),
        st.tuples(st.just("acknowledge"), st.floats(0, 1)),
        st.tuples(st.just("reconnect"), st.floats(0, 1)),
    ),
    max_size=60,
)


@given(steps)
def test_the_server_ends_up_with_every_byte_in_place(script: list[tuple[Any, ...]]) -> None:
    window = OutputWindow()
    printed: list[tuple[int, int]] = []
    stored: list[tuple[int, int]] = []  # what the server has, without holes

    def deliver(most: int) -> bool:
        chunk = window.take(most)
        if chunk is None:
            return False
        assert len(chunk.data) <= most
        assert chunk.offset <= len(stored), "a hole in the output"
        stored[chunk.offset : chunk.end] = [(chunk.stream, byte) for byte in chunk.data]
        return True

    for step in script:
        match step:
            case ("append", stream, data):
                window.append(stream, data)
                printed += [(stream, byte) for byte in data]
            case ("take", most):
                deliver(most)
            case ("acknowledge", part):
                window.acknowledge(int(len(stored) * part))
            case ("reconnect", part):
                # The server may have lost what was under way, but not what it acknowledged.
                del stored[window.acknowledged + int((len(stored) - window.acknowledged) * part) :]
                window.rewind(len(stored))
        assert window.acknowledged <= window.written == len(printed)
    while deliver(5):
        pass
    assert stored == printed


# Journal


def test_the_journal_gets_each_unacknowledged_byte_once() -> None:
    window = OutputWindow()
    window.append(OUT, b"abcdef")
    window.acknowledge(2)
    assert [(piece.offset, piece.data) for piece in window.unjournalled(4)] == [(2, b"cd")]
    assert window.has_unjournalled
    assert [(piece.offset, piece.data) for piece in window.unjournalled(6)] == [(4, b"ef")]
    assert window.unjournalled(6) == []
    window.not_journalled(3)
    assert [(piece.offset, piece.data) for piece in window.unjournalled(6)] == [(3, b"def")]


def test_a_restored_window_sends_what_the_server_lacks() -> None:
    window = OutputWindow()
    # What lay between them was acknowledged before it had to be written.
    window.restore([Chunk(OUT, 0, b"ab"), Chunk(OUT, 5, b"fg"), Chunk(OUT, 7, b"h")], 0)
    assert (window.acknowledged, window.written) == (5, 8)
    window.advance(7)
    window.rewind(7)
    chunk = window.take(100)
    assert chunk
    assert (chunk.offset, chunk.data) == (7, b"h")


def test_a_restored_window_learns_of_output_that_only_the_server_has() -> None:
    window = OutputWindow()
    window.restore([Chunk(OUT, 0, b"ab")], 0)
    window.advance(10)
    window.rewind(10)
    assert (window.acknowledged, window.written, window.take(100)) == (10, 10, None)
