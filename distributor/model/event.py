"""Events about commands and agents. The store writes each in the same atomic step as the change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias

from distributor.model.command import CommandState, Reason
from distributor.model.lifecycle import CommandStatus


class EventKind(StrEnum):
    """The kind of an event. The values are stored in Valkey."""

    QUEUED = "queued"
    ASSIGNED = "assigned"
    ACKNOWLEDGED = "acknowledged"
    STARTED = "started"
    RELEASED = "released"
    CANCEL_REQUESTED = "cancel_requested"
    UNCONFIRMED = "unconfirmed"
    """It is to end, but its agent may run it and has not been heard."""
    CANCEL_PROGRESSED = "cancel_progressed"
    """A cancel has reached another stage."""
    EXTENDED = "extended"
    """Its time limit was extended."""
    FINISHED = "finished"
    LATE = "late"
    """A report came after the end. Nothing else that is shown has changed."""
    READY = "ready"
    """The delay of a released command is over. Nothing that is shown has changed."""
    OUTPUT = "output"
    AGENT = "agent"
    STOPS = "stops"
    """An emergency stop began or ended."""


class CommandChanged(NamedTuple):
    """A command changed to `revision`.

    `whole` is its state if the event carries all of it, as those of kind QUEUED and FINISHED do. Otherwise `receipts`
    and `changes` have the new value of each changed field besides status and attempt, named as in Receipts and
    CommandState.
    """

    kind: EventKind
    command_id: str
    agent_id: str
    revision: int
    status: CommandStatus
    attempt: int
    reason: Reason = Reason()
    whole: CommandState | None = None
    receipts: Mapping[str, int] = {}
    changes: Mapping[str, Any] = {}


class CommandReady(NamedTuple):
    """A queued command can be claimed again."""

    command_id: str
    agent_id: str
    type: str


class LateReport(NamedTuple):
    """A report of another end came after the command had ended, and is kept beside its result."""

    command_id: str
    agent_id: str
    status: CommandStatus


class OutputArrived(NamedTuple):
    """Output of a command has arrived up to `end_offset` bytes. Only a hint: the bytes are in the output log."""

    command_id: str
    agent_id: str
    end_offset: int


class AgentChanged(NamedTuple):
    """An agent attached or detached. `revision` counts the changes of its session `epoch`."""

    agent_id: str
    epoch: int
    revision: int
    connected: bool


class StopsChanged(NamedTuple):
    """An emergency stop began or ended: read which are in force."""

    stop_id: str


Event: TypeAlias = CommandChanged | CommandReady | LateReport | OutputArrived | AgentChanged | StopsChanged


class EventBatch(NamedTuple):
    """The events of one change: the replica that made it, and one event per command, agent or stop.

    `position` is that of the batch in the log: milliseconds by Valkey's clock, a dash, and a sequence number.
    """

    position: str
    origin: str
    events: Sequence[Event]
    missed: bool = False
    """True if earlier events are missing because they are no longer retained."""


def merged(state: CommandState | None, change: CommandChanged) -> CommandState | None:
    """The newer of `state` and the state after `change`; None if `state` lacks changes before it: reread it."""
    if state is not None and change.revision <= state.revision:
        return state
    if change.whole is not None:
        return change.whole
    if state is None or change.revision != state.revision + 1:
        return None
    return state._replace(
        revision=change.revision,
        status=change.status,
        attempt=change.attempt,
        receipts=state.receipts._replace(**change.receipts) if change.receipts else state.receipts,
        **change.changes,
    )
