"""A histogram for hot paths: one bisection and two additions per observation, no lock.

The one in prometheus_client walks its buckets and takes a lock. That costs several microseconds, on paths that run
tens of thousands of times a second.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

MAX_LABEL_SETS: Final = 200
"""Callers may choose label values. Further label sets share OTHER, so that memory stays bounded."""
OTHER: Final = "other"


class Buckets:
    """Counts for one label set. Not thread-safe."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Record one observation."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value


class Histogram(Collector):
    """A Prometheus collector with one `Buckets` per label set. Not thread-safe: update and scrape on one thread."""

    def __init__(
        self,
        registry: CollectorRegistry,
        name: str,
        documentation: str,
        bounds: Sequence[float],
        labels: Sequence[str] = (),
    ) -> None:
        self._name, self._documentation = name, documentation
        self._bounds, self._labels = tuple(bounds), tuple(labels)
        self._children: dict[tuple[str, ...], Buckets] = {}
        if not labels:
            self.child()
        registry.register(self)

    def child(self, *values: str) -> Buckets:
        """Return the buckets for these label values. Keep the return value: the lookup is slower than `observe`."""
        found = self._children.get(values)
        if found is None:
            if len(self._children) >= MAX_LABEL_SETS:
                values = (OTHER,) * len(values)
            found = self._children.setdefault(values, Buckets(self._bounds))
        return found

    def describe(self) -> Iterator[HistogramMetricFamily]:
        """Yield the metric family without values."""
        yield HistogramMetricFamily(self._name, self._documentation, labels=self._labels)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield the metric family with its current values."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        names = [*(repr(bound) for bound in self._bounds), "+Inf"]
        for values, buckets in self._children.items():
            cumulative = accumulate(buckets.counts)
            family.add_metric(values, list(zip(names, cumulative, strict=True)), buckets.sum)
        yield family
