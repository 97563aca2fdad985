"""Text for people."""

from __future__ import annotations

import click
import pytest

from distributor.cli.one_line import printable
from distributor.cli.sender.tables import columns, span_text, timeline
from distributor.model.command import Receipts


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (1_000, "1.0 s"),
        (59_940, "59.9 s"),
        (60_000, "1 min 0 s"),
        (3_599_999, "1 h 0 min"),
        (90_061_000, "1 d 1 h"),
    ],
)
def test_spans(ms: int, text: str) -> None:
    assert span_text(ms) == text


def test_columns_are_as_wide_as_they_need_colour_aside() -> None:
    table = columns(("a", "long name"), [("xyz", click.style("red", fg="red")), ("", "z")])

    assert click.unstyle(table) == "A    LONG NAME\nxyz  red\n     z"


@pytest.mark.parametrize(
    ("width", "last"),
    [(None, "abcdefghijklmnop"), (18, "abcdefghijklmnop"), (16, "abcdefghijklm…"), (11, "abcdefghijklmnop")],
)
def test_the_last_column_gets_what_the_others_leave(width: int | None, last: str) -> None:
    """But where that is hardly anything, the line is longer than the screen."""
    header, row = columns(("", ""), [("", "abcdefghijklmnop")], width).splitlines()

    assert (header, row) == ("", f"  {last}")


def test_a_timeline_leaves_out_what_was_not_passed() -> None:
    receipts = Receipts(queued_ms=1_000, assigned_ms=1_002, finished_ms=5_002)

    assert timeline(receipts) == (
        "  queued        1970-01-01T00:00:01.000Z\n"
        "  assigned      1970-01-01T00:00:01.002Z  +2 ms\n"
        "  finished      1970-01-01T00:00:05.002Z  +4.0 s"
    )


def test_control_characters_are_shown_not_obeyed() -> None:
    assert printable("a\x1b]0;title\x07é\u202e") == "a\\x1b]0;title\\x07é\\u202e"
