"""Lines with whose they are, shown before they end."""

from __future__ import annotations

from distributor.cli.sender.partial_lines import MAX_LINE_BYTES, PartialLines


def test_whole_lines_and_what_unended_text() -> None:
    lines = PartialLines(b"a1")
    assert lines.feed(b"one\n\ntw") == b"a1 | one\na1 | \n"
    assert lines.partial
    assert lines.flush() == b"a1 | tw\n"
    assert lines.flush() == b""
    assert lines.feed(b"o\nthree\n") == b"a1 + o\na1 | three\n"


def test_a_line_that_was_shown_and_only_ends_is_not_mistaken_for_an_empty_one() -> None:
    lines = PartialLines(b"a1")
    lines.feed(b"done")
    lines.flush()
    assert lines.feed(b"\nnext\n") == b"a1 + \na1 | next\n"


def test_progress_with_carriage_returns_is_shown_step_by_step() -> None:
    lines = PartialLines(b"a1")
    assert lines.feed(b"10%\r20%\r") == b"a1 | 10%\r\n"
    assert lines.feed(b"30%") == b"a1 + 20%\r\n"
    assert lines.feed(b"\r\ndone\r\n") == b"a1 + 30%\r\na1 | done\r\n"


def test_carriage_return_and_newline_in_two_pieces_are_one_end() -> None:
    lines = PartialLines(b"a1")
    assert lines.feed(b"line\r") == b""
    assert lines.feed(b"\nnext") == b"a1 | line\r\n"


def test_a_line_without_end_is_not_held_back_for_ever() -> None:
    lines = PartialLines(b"a1")
    shown = b"".join(lines.feed(b"x" * 10_000) for _ in range(20))
    assert shown == b"a1 | " + b"x" * MAX_LINE_BYTES + b"\na1 + " + b"x" * MAX_LINE_BYTES + b"\na1 + " + (
        b"x" * MAX_LINE_BYTES + b"\n"
    )
    assert lines.flush() == b"a1 + " + b"x" * (200_000 - 3 * MAX_LINE_BYTES) + b"\n"


def test_lines_do_not_join_across_lost_bytes() -> None:
    lines = PartialLines(b"a1")
    lines.feed(b"half")
    assert lines.lose() == b"a1 | half\n"
    assert lines.lose() == b""
    assert lines.feed(b"other half\nnext\n") == b"a1 ~ other half\na1 | next\n"
