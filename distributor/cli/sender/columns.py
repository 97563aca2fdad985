"""Tables for people, as wide as the screen where they can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import click

Columns = Mapping[str, Sequence[str]]
"""The cells of each column by its name, in order. Cells may carry colour, those of the last column not."""

_LEAST_WIDTH: Final = 10
"""Of a column that is cut."""
_BETWEEN: Final = "  "


def fitted(table: Columns, width: int | None, short: Columns, dispensable: Sequence[str]) -> str:
    """`table` on a screen of `width` characters.

    Where it is too wide, the columns of `short` take the place of those of the same name; where it still is, those
    that are `dispensable` are left out, one after the other. A width of None is of no screen: everything is shown.
    """
    if width is not None and _least_width(table) > width:
        table = {name: short.get(name, cells) for name, cells in table.items()}
        for name in dispensable:
            if _least_width(table) <= width:
                break
            table = {other: cells for other, cells in table.items() if other != name}
    return columns(table, width)


def columns(table: Columns, width: int | None = None) -> str:
    """A table: columns as wide as they need, two spaces apart.

    On a screen of `width` characters the last column gets what the others leave, unless that is hardly anything.
    """
    widths = _widths(table)
    cells = [[name.upper(), *column] for name, column in table.items()]
    if width is not None:
        left = width - _total(widths) + widths[-1]
        if _LEAST_WIDTH <= left < widths[-1]:
            widths[-1] = left
            cells[-1] = [_cut(cell, left) for cell in cells[-1]]
    return "\n".join(
        _BETWEEN.join(_padded(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in zip(*cells, strict=True)
    )


def _widths(table: Columns) -> list[int]:
    return [max(len(click.unstyle(cell)) for cell in (name, *cells)) for name, cells in table.items()]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_BETWEEN) * (len(widths) - 1)


def _least_width(table: Columns) -> int:
    *widths, last = _widths(table)
    return _total([*widths, min(last, _LEAST_WIDTH)])


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - len(click.unstyle(cell)))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
