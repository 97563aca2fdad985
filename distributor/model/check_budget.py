"""What a check of params against a schema may cost, in steps."""

from __future__ import annotations

from typing import Final

MAX_STEPS: Final = 50_000
"""Most that a check may cost: up to a second."""
QUICK_STEPS: Final = 300
"""A check within this budget takes a few milliseconds at most, so that an event loop can run it."""


class TooCostly(Exception):
    """A check exceeded its budget."""
