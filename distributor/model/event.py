"""What happened to commands, as told to watchers. Written by the store in the same atomic step as the change."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from distributor.model.command import CommandState


class EventKind(StrEnum):
    """What an event tells of. The words are stored in Valkey."""

    QUEUED = "queued"
    ASSIGNED = "assigned"
    ACKNOWLEDGED = "acknowledged"
    STARTED = "started"
    RELEASED = "released"
    CANCEL_REQUESTED = "cancel_requested"
    FINISHED = "finished"
    OUTPUT = "output"
    AGENT = "agent"


class CommandChanged(NamedTuple):
    """A command changed; `state` is all of it after the change. `position` orders all events of a store."""

    position: str
    kind: EventKind
    state: CommandState


class OutputArrived(NamedTuple):
    """There is output of a command up to `end_offset` bytes. A hint: the output log has the bytes."""

    position: str
    command_id: str
    agent_id: str
    end_offset: int


class AgentChanged(NamedTuple):
    """An agent attached, detached, or gained or lost room."""

    position: str
    agent_id: str
    epoch: int
    connected: bool


Event = CommandChanged | OutputArrived | AgentChanged


class EventRecord(Protocol):
    """One event as stored. Most are of no interest to most readers, so decoding it is left to those who care."""

    @property
    def position(self) -> str:
        """Its place in the log: the millisecond by Valkey's clock, a dash, and a number within it."""

    @property
    def subject(self) -> str:
        """The id of the command or the agent it is about."""

    @property
    def kind(self) -> str:
        """One of EventKind."""

    @property
    def agent_id(self) -> str:
        """The agent it is about, or whose command."""

    def event(self) -> Event:
        """All of it."""


class EventBatch(NamedTuple):
    """What one change wrote: the replica that made it, and one record for each subject."""

    position: str
    origin: str
    records: Sequence[EventRecord]
    missed: bool = False
    """There were more before these, which are no longer kept."""
