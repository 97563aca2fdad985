"""Queries: filters, pages of results, and counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from distributor.model.agent import AgentPresence
from distributor.model.command import CommandState
from distributor.model.lifecycle import CommandStatus


@dataclass(frozen=True, slots=True)
class CommandQuery:
    """A filter. Unset fields match everything; the time bounds apply to arrival, lower inclusive, upper exclusive."""

    agent_id: str = ""
    statuses: tuple[CommandStatus, ...] = ()
    type: str = ""
    queued_from_ms: int | None = None
    queued_until_ms: int | None = None


class CommandDetails(NamedTuple):
    """Everything about one command. `encoded` is the stored command, None once it is no longer retained."""

    state: CommandState
    encoded: bytes | None
    output_bytes: int
    agent: AgentPresence


class CommandPage(NamedTuple):
    """One page of a list. `cursor` is empty on the last page."""

    states: list[CommandState]
    cursor: str


class QueueDepth(NamedTuple):
    """Number of commands per state, and the age of the oldest queued one."""

    by_status: dict[CommandStatus, int]
    oldest_queued_age_ms: int
