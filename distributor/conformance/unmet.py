"""The failure of an agent to do what was expected."""

from __future__ import annotations


class Unmet(AssertionError):
    """An agent did not do what was expected; says what came instead.

    `expected` is empty if the scenario's own description says it.
    """

    def __init__(self, came: str, expected: str = "") -> None:
        super().__init__(f"expected {expected}; came: {came}" if expected else f"came: {came}")
        self.came = came
        self.expected = expected
