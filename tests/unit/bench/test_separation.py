"""How well two sets of times can be told apart."""

from __future__ import annotations

import pytest

from bench.separation import auc


@pytest.mark.parametrize(
    ("times", "others", "expected"),
    [
        ([1, 2, 3], [1, 2, 3], 0.5),
        ([4, 5], [1, 2, 3], 1.0),
        ([0], [1, 2, 3], 0.0),
        ([2], [1, 2, 3, 4], 0.375),
        ([1, 1, 1], [1], 0.5),
    ],
)
def test_the_probability_that_one_is_longer(times: list[float], others: list[float], expected: float) -> None:
    assert auc(times, others) == expected
    assert auc(others, times) == 1 - expected
