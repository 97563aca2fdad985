"""What can be listed and counted: a query, a page of its answer, and how much there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from distributor.model.agent import AgentPresence
from distributor.model.command import CommandState
from distributor.model.lifecycle import CommandStatus


@dataclass(frozen=True, slots=True)
class CommandQuery:
    """What to list. Unset fields match everything; times bound the arrival, lower inclusive, upper exclusive."""

    agent_id: str = ""
    statuses: tuple[CommandStatus, ...] = ()
    type: str = ""
    queued_from_ms: int | None = None
    queued_until_ms: int | None = None


class CommandDetails(NamedTuple):
    """All of one command. `encoded` is the command as stored, None once it is no longer kept."""

    state: CommandState
    encoded: bytes | None
    output_bytes: int
    agent: AgentPresence


class Page(NamedTuple):
    """One page of a list. `cursor` is empty at the end."""

    states: list[CommandState]
    cursor: str


class QueueDepth(NamedTuple):
    """How much there is: commands per state, and the age of the oldest queued one."""

    by_status: dict[CommandStatus, int]
    oldest_queued_age_ms: int
