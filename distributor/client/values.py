"""The client's own frozen values.

Times are milliseconds since the epoch by the store's clock, 0 if unset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from distributor.errors import DistributorError
from distributor.model.command import Command
from distributor.model.lifecycle import CommandStatus

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class QueuedCommand:
    """A queued command. `already_queued`: an earlier request with the caller's idempotency key had queued it."""

    command: Command
    already_queued: bool


@dataclass(frozen=True, slots=True)
class Queued:
    """One queued command of many. `already_queued` as in QueuedCommand; `agent_known`: it has connected before."""

    command_id: str
    already_queued: bool
    agent_connected: bool
    agent_known: bool


QueueOutcome: TypeAlias = Queued | DistributorError
"""The outcome of one command of many: queued, or the error."""


@dataclass(frozen=True, slots=True)
class CommandFilter:
    """Which commands to list: all fields that are set must match, with any of `statuses`."""

    agent_id: str = ""
    statuses: Sequence[CommandStatus] = ()
    type: str = ""
    queued_after_ms: int = 0
    queued_before_ms: int = 0


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list. `next_page_token` is empty on the last page; an empty page may have a next one."""

    items: Sequence[T]
    next_page_token: str
