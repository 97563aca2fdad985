"""Text tables that fit the width of the screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import click

Columns = Mapping[str, Sequence[str]]
"""The cells of each column by name, in order. Cells may have colour, except in the last column."""

_MIN_WIDTH: Final = 10
"""Characters left of a column that is cut."""
_SEPARATOR: Final = "  "


def fit_table(table: Columns, width: int | None, short: Columns, dispensable: Sequence[str]) -> str:
    """Format `table` for a screen of `width` characters; None means no limit.

    If the table is too wide, columns in `short` replace those of the same name; if it still is, `dispensable` columns
    are dropped one by one.
    """
    if width is not None and _min_width(table) > width:
        table = {name: short.get(name, cells) for name, cells in table.items()}
        for name in dispensable:
            if _min_width(table) <= width:
                break
            table = {other: cells for other, cells in table.items() if other != name}
    return format_table(table, width)


def format_table(table: Columns, width: int | None = None) -> str:
    """Format `table` with columns as wide as their content, two spaces apart.

    With a `width`, the last column is cut to the remaining characters, if there are at least 10.
    """
    widths = _widths(table)
    cells = [[name.upper(), *column] for name, column in table.items()]
    if width is not None:
        left = width - _total(widths) + widths[-1]
        if _MIN_WIDTH <= left < widths[-1]:
            widths[-1] = left
            cells[-1] = [_cut(cell, left) for cell in cells[-1]]
    return "\n".join(
        _SEPARATOR.join(_padded(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in zip(*cells, strict=True)
    )


def _widths(table: Columns) -> list[int]:
    return [max(len(click.unstyle(cell)) for cell in (name, *cells)) for name, cells in table.items()]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_SEPARATOR) * (len(widths) - 1)


def _min_width(table: Columns) -> int:
    *widths, last = _widths(table)
    return _total([*widths, min(last, _MIN_WIDTH)])


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - len(click.unstyle(cell)))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
