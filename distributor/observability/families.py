"""Metric families of other processes: sent as JSON, and shown as one, each sample with the process it is from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import Metric
from prometheus_client.registry import Collector

Document = list[Any]
"""Name, help text, type and unit of a family, and its samples: name, labels and value of each."""


def family_documents(source: Collector) -> list[Document]:
    """Return all that `source` collects, as JSON."""
    return [
        [
            family.name,
            family.documentation,
            family.type,
            family.unit,
            [[sample.name, sample.labels, sample.value] for sample in family.samples],
        ]
        for family in source.collect()
    ]


class MergedFamilies(Collector):
    """The families of `own`, and those of `others` by process, whose samples have the process in `label`."""

    def __init__(self, label: str, own: Collector, others: Mapping[str, Sequence[Document]]) -> None:
        self._label = label
        self._own = own
        self._others = others

    def collect(self) -> Iterator[Metric]:
        """Yield each family once."""
        yield from self._own.collect()
        yield from self._merged().values()

    def _merged(self) -> dict[str, Metric]:
        merged: dict[str, Metric] = {}
        for process, documents in self._others.items():
            for name, documentation, kind, unit, samples in documents:
                family = merged.get(name)
                if family is None:
                    family = merged[name] = Metric(name, documentation, kind, unit)
                self._add(family, process, samples)
        return merged

    def _add(self, family: Metric, process: str, samples: Iterable[Sequence[Any]]) -> None:
        for name, labels, value in samples:
            family.add_sample(name, {self._label: process, **labels}, value)
