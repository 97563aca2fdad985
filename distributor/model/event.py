"""Events about commands and agents. The store writes each in the same atomic step as the change."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from distributor.model.command import CommandState


class EventKind(StrEnum):
    """The kind of an event. The values are stored in Valkey."""

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
    """A command changed to `state`. `position` orders all events of a store."""

    position: str
    kind: EventKind
    state: CommandState


class OutputArrived(NamedTuple):
    """Output of a command has arrived up to `end_offset` bytes. Only a hint: the bytes are in the output log."""

    position: str
    command_id: str
    agent_id: str
    end_offset: int


class AgentChanged(NamedTuple):
    """An agent attached, detached, or its free capacity changed."""

    position: str
    agent_id: str
    epoch: int
    connected: bool


Event = CommandChanged | OutputArrived | AgentChanged


class EventRecord(Protocol):
    """One stored event, decoded on demand: most readers need few of them."""

    @property
    def position(self) -> str:
        """Its position in the log: milliseconds by Valkey's clock, a dash, and a sequence number."""

    @property
    def subject(self) -> str:
        """The id of the command or agent that it concerns."""

    @property
    def kind(self) -> str:
        """A value of EventKind."""

    @property
    def agent_id(self) -> str:
        """The agent that it concerns, directly or through its command."""

    def event(self) -> Event:
        """Decode the event."""


class EventBatch(NamedTuple):
    """The events of one change: the replica that made it, and one record per subject."""

    position: str
    origin: str
    records: Sequence[EventRecord]
    missed: bool = False
    """True if earlier events are missing because they are no longer retained."""
