"""What checks of params against schemas may cost, in steps."""

from __future__ import annotations

from typing import Final

MAX_STEPS: Final = 50_000
"""Most that the check of one command may cost: up to a second."""
MAX_CALL_STEPS: Final = 100_000
"""Most that the checks of one call, or message, may cost together, beyond those that are quick."""
QUICK_STEPS: Final = 300
"""A check within this budget takes a few milliseconds at most, so that an event loop can run it."""


class TooCostly(Exception):
    """A check exceeded its budget."""


class CheckBudget:
    """The steps that are left for one check, and for all checks of `call`.

    `final`: params that exceed it are refused. Otherwise they are to be checked again with another budget.
    """

    __slots__ = ("_call", "_left", "final")

    def __init__(self, steps: int = MAX_STEPS, call: CheckBudget | None = None, *, final: bool = True) -> None:
        self.final = final
        self._left = steps
        self._call = call

    def spend(self, steps: int) -> None:
        """Take steps. Raises TooCostly if there are not so many."""
        self._left -= steps
        if self._left < 0:
            raise TooCostly
        if self._call is not None:
            self._call.spend(steps)


def quick_budget() -> CheckBudget:
    """The budget of a check on an event loop."""
    return CheckBudget(QUICK_STEPS, final=False)


def call_budget(quick: int = 0) -> CheckBudget:
    """What the checks of one call share, those of `quick` commands that are quick to check included."""
    return CheckBudget(MAX_CALL_STEPS + quick * QUICK_STEPS)
