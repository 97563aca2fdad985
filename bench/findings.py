"""What a scenario finds, and whether that is enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class BenchFailed(Exception):
    """Something did not work, so there is nothing to measure."""


@dataclass(frozen=True)
class Finding:
    """One figure. At most one of the targets is set."""

    name: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def ok(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.at_least is not None:
            return self.value >= self.at_least
        if self.at_most is not None:
            return self.value <= self.at_most
        return None


@dataclass(frozen=True)
class Outcome:
    """What came of one scenario."""

    scenario: str
    findings: Sequence[Finding]
    details: dict[str, Any]
    valkey_version: str


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The value below which so many of the values lie, by nearest rank. They must be in order."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """How much y grows for each x, by least squares."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)
