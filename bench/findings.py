"""Measured figures and their targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class BenchFailed(Exception):
    """A measurement failed."""


@dataclass(frozen=True)
class Finding:
    """A measured figure, with at most one target."""

    name: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def ok(self) -> bool | None:
        """Whether the target is met; None without a target."""
        if self.at_least is not None:
            return self.value >= self.at_least
        if self.at_most is not None:
            return self.value <= self.at_most
        return None


@dataclass(frozen=True)
class Outcome:
    """The outcome of a scenario."""

    scenario: str
    findings: Sequence[Finding]
    details: dict[str, Any]
    seconds: float
    """How long it took, including the start of the server and Valkey."""
    valkey_version: str


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return a percentile of sorted values, by nearest rank."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the least-squares slope of y over x."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)
