"""Prints the comparison as lines of text. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping

from bench.peers.comparison import FIGURES, Comparison
from bench.peers.differences import DIFFERENCES, NO, YES
from bench.peers.turns import CPU_BY_OTHERS
from bench.peers.work import Shape

WIDTH = 120
ROLES = ("server", "valkey", "worker", "caller")
NONE = "–"
_NAME_WIDTH = 14
_COLUMN_WIDTH = 10


def lines(comparison: Comparison) -> Iterator[str]:
    """Yield figures, ratios and CPU of each shape."""
    yield "Medians of the rounds. Each ratio is this project's figure divided by the peer's."
    yield "CPU of each process in µs per command; others: CPU that other programs took, which disturbs the figures."
    for shape in Shape:
        yield ""
        yield from _shape(comparison, shape)


def peer_lines(settings: Mapping[str, str], left_out: Mapping[str, str]) -> Iterator[str]:
    """Yield the setting of each peer and what it does not do, then the peers that are left out, with the reason."""
    for peer, setting in settings.items():
        yield ""
        yield from _wrapped(f"{peer}: {setting}.")
        yield from missing_features(peer)
    if left_out:
        yield ""
    for peer, reason in left_out.items():
        yield f"{peer} is left out: {reason}"


def _shape(comparison: Comparison, shape: Shape) -> Iterator[str]:
    figures = FIGURES[shape]
    heads = [head for figure in figures for head in (figure, "ratio")]
    yield _row(shape.value, [*heads, *ROLES, "all", "others"])
    for contender in comparison.contenders:
        cells = [cell for figure in figures for cell in _figure(comparison, contender, shape, figure)]
        cpu = [comparison.median(contender, shape, role) for role in ROLES]
        total = sum(value for value in cpu if value is not None)
        others = comparison.median(contender, shape, CPU_BY_OTHERS)
        yield _row(contender, [*cells, *map(shown, cpu), shown(total), f"{shown(others)} %"])


def _figure(comparison: Comparison, contender: str, shape: Shape, figure: str) -> tuple[str, str]:
    ratio = None if contender == comparison.own else comparison.ratio(contender, shape, figure)
    return shown(comparison.median(contender, shape, figure)), shown(ratio)


def shown(value: float | None) -> str:
    """Return a figure in few digits."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def missing_features(peer: str) -> Iterator[str]:
    """Yield, in two wrapped paragraphs, what the peer does not do and what it has instead of a feature."""
    answers = {difference.feature: difference.of(peer) for difference in DIFFERENCES}
    lacking = [feature for feature, answer in answers.items() if answer == NO]
    instead = [f"{feature} ({answer})" for feature, answer in answers.items() if answer not in (YES, NO, "")]
    for verb, features in (("does not", lacking), ("only partly", instead)):
        if features:
            yield from _wrapped(f"{peer} {verb}: {'; '.join(features)}.")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ")


def _row(name: str, cells: list[str]) -> str:
    return name.ljust(_NAME_WIDTH) + "".join(cell.rjust(_COLUMN_WIDTH) for cell in cells)
