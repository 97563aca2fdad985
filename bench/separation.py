"""How well two sets of times can be told apart."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence


def auc(times: Sequence[float], others: Sequence[float]) -> float:
    """Return the probability that a random one of `times` is longer than a random one of `others`.

    0.5 if nothing can be learnt from a time, 1 or 0 if everything. Neither may be empty.
    """
    ordered = sorted(others)
    longer = sum(bisect_left(ordered, time) + bisect_right(ordered, time) for time in times)
    return longer / (2 * len(times) * len(ordered))
