"""What verifying the audit trail found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """The questions that verification answers separately.

    `integrity`: every row is as it was written. `completeness`: no row is missing, by the chain and by the checkpoints
    that others remember. `order`: every row is in its place. `clock`: times do not go back, nor lie in the future.
    """

    INTEGRITY = "integrity"
    COMPLETENESS = "completeness"
    ORDER = "order"
    CLOCK = "clock"


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault. `seq` is the row concerned, 0 if none in particular."""

    seq: int
    text: str


@dataclass(frozen=True, slots=True)
class AuditVerdicts:
    """The findings of each verdict; empty for one that holds.

    Rows up to `pruned_through` are past their retention. `witnesses` is how many checkpoints from outside were
    confirmed; with 0, only the chain itself speaks for its end. `unverifiable` counts what needs a missing key.
    `counts` has all findings, of which `findings` keeps the first.
    """

    rows: int
    last_seq: int
    pruned_through: int
    pruned_until_ms: int
    origin: str
    witnesses: int
    unverifiable: int
    findings: Mapping[Verdict, tuple[Finding, ...]]
    counts: Mapping[Verdict, int]

    def holds(self, verdict: Verdict) -> bool:
        """Whether nothing was found against it."""
        return not self.counts.get(verdict)

    @property
    def ok(self) -> bool:
        """Whether all verdicts hold."""
        return not any(self.counts.values())
