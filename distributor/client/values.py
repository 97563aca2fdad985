"""The client's own frozen values.

Times are milliseconds since the epoch by the store's clock, 0 if unset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from distributor.errors import DistributorError


@dataclass(frozen=True, slots=True)
class Queued:
    """One queued command of many. `already_queued` as in QueuedCommand; `agent_known`: it has connected before."""

    command_id: str
    already_queued: bool
    agent_connected: bool
    agent_known: bool


@dataclass(frozen=True, slots=True)
class Retried:
    """One command queued again: the id of the new command, or the error."""

    command_id: str
    outcome: str | DistributorError


@dataclass(frozen=True, slots=True)
class Retries:
    """The answer to a retry. `matched` counts the ended commands named or found, up to the limit; `more` match."""

    commands: Sequence[Retried]
    matched: int
    more: bool


QueueOutcome: TypeAlias = Queued | DistributorError
"""The outcome of one command of many: queued, or the error."""
