"""Queries: filters, pages of results, and counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from distributor.model.agent import AgentPresence
from distributor.model.command import CommandResult, CommandState
from distributor.model.lifecycle import CommandStatus

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CommandFilter:
    """Which commands to list: all fields that are set must match, with any of `statuses`.

    The bounds apply to the time of queueing, `queued_after_ms` inclusive, `queued_before_ms` exclusive.
    """

    agent_id: str = ""
    statuses: Sequence[CommandStatus] = ()
    type: str = ""
    queued_after_ms: int | None = None
    queued_before_ms: int | None = None


class CommandDetails(NamedTuple):
    """Everything about one command. `encoded` is the stored command, None once it is no longer retained."""

    state: CommandState
    encoded: bytes | None
    output_bytes: int
    agent: AgentPresence
    extended_ms: int | None = None
    """The time limit of the present or last run, if its agent extended it."""
    late: CommandResult | None = None
    """The last report that came after the command had ended."""


class Page(NamedTuple, Generic[T]):
    """One page of a list. `next_page_token` is empty on the last page; an empty page may have a next one."""

    items: Sequence[T]
    next_page_token: str


class QueueDepth(NamedTuple):
    """Number of commands per state, and the age of the oldest queued one."""

    by_status: dict[CommandStatus, int]
    oldest_queued_age_ms: int
