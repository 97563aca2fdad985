"""When so much comes that it pays to let it gather."""

from __future__ import annotations

import pytest

from distributor.model.pace import WINDOW_SECONDS, Pace


def noted(*events: tuple[float, int]) -> bool:
    """What a pace of 1,000 a second says after these (milliseconds, count)."""
    pace = Pace(1_000)
    busy = False
    for milliseconds, count in events:
        busy = pace.note(count, 100.0 + milliseconds / 1_000)
    return busy


def evenly(per_second: int, milliseconds: int = 200) -> list[tuple[float, int]]:
    """One at a time, at that rate."""
    return [(number * 1_000 / per_second, 1) for number in range(per_second * milliseconds // 1_000)]


@pytest.mark.parametrize(
    ("per_second", "busy"), [(100, False), (600, False), (950, False), (1_100, True), (5_000, True)]
)
def test_it_goes_by_the_rate(per_second: int, busy: bool) -> None:
    assert noted(*evenly(per_second)) is busy


def test_a_burst_alone_is_not_busy() -> None:
    assert not noted((0, 10_000))


def test_it_is_calm_again_after_a_pause() -> None:
    rush = evenly(5_000)
    assert noted(*rush)
    assert not noted(*rush, (rush[-1][0] + 3 * WINDOW_SECONDS * 1_000, 1))
