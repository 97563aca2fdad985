"""Tables and the width of the screen."""

from __future__ import annotations

import click
import pytest

from distributor.cli.sender.columns import fit_table, format_table

TABLE = {"id": ["a"], "much": ["x" * 20], "time": ["2026-01-31T12:00:00Z"], "last": ["0123456789abcdef"]}
SHORT = {"time": ["12:00:00"]}


def test_columns_are_as_wide_as_they_need_colour_aside() -> None:
    table = format_table({"a": ["xyz", ""], "long name": [click.style("red", fg="red"), "z"]})

    assert click.unstyle(table) == "A    LONG NAME\nxyz  red\n     z"


@pytest.mark.parametrize(
    ("width", "last"),
    [(None, "abcdefghijklmnop"), (18, "abcdefghijklmnop"), (16, "abcdefghijklm…"), (11, "abcdefghijklmnop")],
)
def test_the_last_column_gets_what_the_others_leave(width: int | None, last: str) -> None:
    """But where that is hardly anything, the line is longer than the screen."""
    header, row = format_table({"": [""], " ": ["abcdefghijklmnop"]}, width).splitlines()

    assert (header, row) == ("", f"  {last}")


@pytest.mark.parametrize(
    ("width", "header", "row"),
    [
        (None, "ID  MUCH                  TIME                  LAST", 64),
        (58, "ID  MUCH                  TIME                  LAST", 58),
        (57, "ID  MUCH                  TIME      LAST", 52),
        (45, "ID  TIME      LAST", 30),
        (24, "ID  TIME      LAST", 24),
        (15, "ID  TIME      LAST", 30),
    ],
)
def test_what_a_narrow_screen_leaves_out(width: int | None, header: str, row: int) -> None:
    told, line = fit_table(TABLE, width, SHORT, ["much"]).splitlines()

    assert (told, len(line)) == (header, row)


def test_a_table_without_rows() -> None:
    assert fit_table({"id": [], "last": []}, 3, {}, ["id"]) == "LAST"
