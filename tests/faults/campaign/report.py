"""Prints what a campaign came to."""

from __future__ import annotations

from collections.abc import Sequence

from tests.faults.campaign.nemesis import Outcome

_HEADINGS = ("fault", "injected", "commands exposed", "violations", "recovery")
MOST_HISTORIES = 3
"""Of each fault; the rest is in the file."""


def table(outcomes: Sequence[Outcome]) -> str:
    """One line for each fault."""
    rows = [
        (
            outcome.fault,
            str(outcome.injected),
            f"{outcome.exposed} of {outcome.commands}",
            outcome.invalid or str(len(outcome.violations)),
            f"{outcome.recovery_seconds:.1f} s",
        )
        for outcome in outcomes
    ]
    widths = [max(len(row[column]) for row in [_HEADINGS, *rows]) for column in range(len(_HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [_HEADINGS, *rows]
    )


def duration(seconds: float) -> str:
    """In minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def details(outcome: Outcome) -> str:
    """Its violations, and the histories of some of the commands that show them."""
    lines = [f"  {violation.broken}: {violation.token}: {violation.text}" for violation in outcome.violations]
    for token in list(dict.fromkeys(violation.token for violation in outcome.violations))[:MOST_HISTORIES]:
        lines += [f"  history of {token}", *(f"    {line}" for line in outcome.histories[token])]
    return "\n".join(lines)
