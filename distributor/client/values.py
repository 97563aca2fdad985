"""What the client takes and gives: frozen values, no wire messages.

Times are milliseconds since the epoch by the clock of the store, 0 where unset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from distributor.errors import DistributorError
from distributor.model.command import Command, CommandResult, CommandState, OfflinePolicy
from distributor.model.delivery import OutputStream
from distributor.model.json_value import JsonValue
from distributor.model.lifecycle import CommandStatus

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """One thing to do on one agent. What is None is left to the server's default.

    `params` go to the handler. `time_limit_seconds` bounds the run, `queue_ttl_seconds` the wait for it. The same
    `idempotency_key` with the same command queues once; without one the client mints a key for its own retries.
    """

    agent_id: str
    type: str
    params: Mapping[str, JsonValue] = field(default_factory=dict)
    priority: int | None = None
    time_limit_seconds: float | None = None
    queue_ttl_seconds: float | None = None
    offline: OfflinePolicy = OfflinePolicy.QUEUE
    max_runs: int | None = None
    idempotency_key: str = ""


@dataclass(frozen=True, slots=True)
class QueuedCommand:
    """The answer to one queued command. `already_queued`: the caller's idempotency key had been used for it before."""

    command: Command
    already_queued: bool


@dataclass(frozen=True, slots=True)
class Queued:
    """One of many was queued. `already_queued` as in QueuedCommand; `agent_known`: it has connected at least once."""

    command_id: str
    already_queued: bool
    agent_connected: bool
    agent_known: bool


QueueOutcome: TypeAlias = Queued | DistributorError
"""What became of one of many: it was queued, or the error says why not."""


@dataclass(frozen=True, slots=True)
class OutputChunk:
    """A piece of output, bytes exact. `offset` is where it begins, counted over both streams."""

    command_id: str
    stream: OutputStream
    offset: int
    data: bytes
    received_ms: int = 0


@dataclass(frozen=True, slots=True)
class OutputGap:
    """Output from `begin_offset` up to `end_offset` is not kept."""

    begin_offset: int
    end_offset: int


Update: TypeAlias = CommandState | OutputChunk | OutputGap | CommandResult
"""One step of a watched command. A CommandResult is the last."""


@dataclass(frozen=True, slots=True)
class CommandFilter:
    """Which commands to list: every field that is set must match; any of `statuses`."""

    agent_id: str = ""
    statuses: Sequence[CommandStatus] = ()
    type: str = ""
    queued_after_ms: int = 0
    queued_before_ms: int = 0


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some of a list. `next_page_token` is empty on the last page; a page may be empty and still have a next one."""

    items: Sequence[T]
    next_page_token: str
