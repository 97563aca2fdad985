"""Values exchanged between use case and store when commands are queued. Times: ms by the store's clock."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from distributor.model.agent import AgentPresence
from distributor.model.command import CommandDraft


class QueueOutcome(StrEnum):
    """What became of a request to queue a command."""

    QUEUED = "queued"
    ALREADY_QUEUED = "already_queued"
    KEY_TAKEN = "key_taken"
    AGENT_OFFLINE = "agent_offline"
    QUEUE_FULL = "queue_full"
    UNSUPPORTED_TYPE = "unsupported_type"


class NewCommand(NamedTuple):
    """A command to store. `encoded` is the form sent to its agent; equal requests have equal `digest`s."""

    command_id: str
    draft: CommandDraft
    encoded: bytes
    digest: str = ""


class Enqueued(NamedTuple):
    """The answer to one request. With ALREADY_QUEUED, `command_id` names the earlier command."""

    outcome: QueueOutcome
    command_id: str
    queued_ms: int
    agent: AgentPresence

    @property
    def already_queued(self) -> bool:
        """Whether an earlier request with the same idempotency key was found."""
        return self.outcome is QueueOutcome.ALREADY_QUEUED
