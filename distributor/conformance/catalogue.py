"""All scenarios, in the order of the protocol's chapters."""

from __future__ import annotations

from types import ModuleType
from typing import Final

from distributor.conformance.scenario import Scenario
from distributor.conformance.scenarios import (
    cancel,
    commands,
    compression,
    freshness,
    halts,
    heartbeats,
    hello,
    journal,
    leaving,
    limits,
    output,
    reconnecting,
    results,
)

# Those after which an agent may wait long before it connects again come last.
_MODULES: Final[tuple[ModuleType, ...]] = (
    hello,
    heartbeats,
    commands,
    freshness,
    output,
    results,
    cancel,
    halts,
    limits,
    compression,
    leaving,
    journal,
    reconnecting,
)

CHAPTERS: Final[dict[str, tuple[Scenario, ...]]] = {
    module.__name__.rpartition(".")[2]: tuple(value for value in vars(module).values() if isinstance(value, Scenario))
    for module in _MODULES
}
"""The scenarios by the name of their file."""

SCENARIOS: Final[tuple[Scenario, ...]] = tuple(one for chapter in CHAPTERS.values() for one in chapter)
