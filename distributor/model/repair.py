"""Repairs of what is stored about commands."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class RepairKind(StrEnum):
    """What did not fit together."""

    INDEX_WITHOUT_RECORD = "index_without_record"
    KEY_WITHOUT_RECORD = "key_without_record"
    RECORD_INCOMPLETE = "record_incomplete"
    MARK_MISSING = "mark_missing"
    """Of a live command: that its agent has it."""
    NOT_IN_STATUS_INDEX = "not_in_status_index"
    NOT_IN_AGENT_INDEX = "not_in_agent_index"
    NOT_IN_CALLER_INDEX = "not_in_caller_index"
    """Among the unfinished commands of the principal that queued it."""
    WRONG_INDEX = "wrong_index"
    """Of another status or another agent."""
    QUEUED_NOT_READY = "queued_not_ready"
    QUEUED_WITHOUT_DEADLINE = "queued_without_deadline"
    ASSIGNED_NOT_LISTED = "assigned_not_listed"
    ASSIGNED_WITHOUT_DEADLINE = "assigned_without_deadline"
    ENDED_IN_INDEX = "ended_in_index"
    """Among live commands."""
    ENDED_NOT_LISTED = "ended_not_listed"
    """It would never have been forgotten."""
    COMMAND_LOST = "command_lost"
    """A queued command of which only the state was left: it ends as failed."""
    SESSION_NOT_LISTED = "session_not_listed"
    WRONG_TYPE = "wrong_type"
    """A key that is not of its type, or a command that such a key keeps from being checked. Nothing is changed."""


class Repair(NamedTuple):
    """One repair; `subject` is the id of a command, of an agent (SESSION_NOT_LISTED), or perhaps a key (WRONG_TYPE)."""

    kind: RepairKind
    subject: str
