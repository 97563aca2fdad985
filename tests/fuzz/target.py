"""What the campaign needs of a target: one attempt at a time."""

from __future__ import annotations

from random import Random
from typing import Final, Protocol

REPLY_SECONDS: Final = 30.0
"""Bound of one answer; the machine may be busy with other tests."""


class Fault(Exception):
    """The system under test answered as it never may. `case` is what it was sent."""

    def __init__(self, what: str, case: object = b"") -> None:
        super().__init__(what)
        self.case = case


class Target(Protocol):
    """One way into the system under test. Attempts of several workers run at the same time."""

    name: str
    workers: int

    async def attempt(self, rng: Random, sound: bool) -> None:
        """Send one case, a sound one or not, and judge what comes back. Raises Fault."""
