"""A scenario: what to play, which rule of the protocol it tests, and what it needs."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from distributor.conformance.trial import Trial

Play = Callable[[Trial], Awaitable[None]]

LAUNCH: Final = "the kit must start the agent"
"""What a scenario needs that ends or restarts the agent."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One test of an agent. `play` raises Unmet if the agent fails it."""

    name: str
    rule: str
    """The heading in docs/protocol.md under which the rule is."""
    expected: str
    needs: str
    """What it needs, as the reason to skip it without; empty for nothing."""
    play: Play


def scenario(rule: str, needs: str = "") -> Callable[[Play], Scenario]:
    """Make a scenario of a function: its name, and its docstring as what is expected."""

    def made(play: Play) -> Scenario:
        name = getattr(play, "__name__", "").replace("_", "-")
        return Scenario(name, rule, " ".join((inspect.getdoc(play) or "").split()), needs, play)

    return made
