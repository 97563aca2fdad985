"""The failure of an agent to do what was expected."""

from __future__ import annotations

from typing import Final

FAULT_OF_THE_KIT: Final = "a fault of the kit"
"""What came, if the kit could not handle it."""
MAX_SHOWN_CHARS: Final = 2_000
"""Maximum number of characters of what came; the middle is left out, as the end says how it ended."""


class Unmet(AssertionError):
    """An agent did not do what was expected; says what came instead.

    `expected` is empty if the scenario's own description says it.
    """

    def __init__(self, came: str, expected: str = "") -> None:
        if len(came) > MAX_SHOWN_CHARS:
            came = f"{came[: MAX_SHOWN_CHARS // 2]}…{came[-MAX_SHOWN_CHARS // 2 :]}"
        super().__init__(f"expected {expected}; came: {came}" if expected else f"came: {came}")
        self.came = came
        self.expected = expected
