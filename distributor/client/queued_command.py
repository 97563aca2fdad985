"""What a caller learns of the command that it queued."""

from __future__ import annotations

from typing import TypeAlias

from distributor.client.translation import command_of
from distributor.model.command import Command
from distributor.v1.command_service_pb2 import QueueCommandOutcome, QueueCommandRequest, QueueCommandResponse

Answer: TypeAlias = QueueCommandResponse | QueueCommandOutcome
"""Either has the command, its state, and whether it was queued before. Only a response has the params."""


class QueuedCommand:
    """A queued command. `already_queued`: an earlier request with the caller's idempotency key had queued it.

    `command` is decoded when it is first read, which costs more than queueing: most callers need only `command_id`.
    """

    __slots__ = ("_answer", "_command", "_request", "already_queued")

    def __init__(self, request: QueueCommandRequest, answer: Answer, already_queued: bool) -> None:
        self._request = request
        self._answer = answer
        self._command: Command | None = None
        self.already_queued = already_queued

    @property
    def command_id(self) -> str:
        """The command id."""
        return self._answer.command.command_id

    @property
    def command(self) -> Command:
        """The command when it was queued. Raises DistributorError for a status that this version does not know."""
        if self._command is None:
            self._command = command_of(self._answer.command, self._answer.state, self._request.command.params)
        return self._command

    def __repr__(self) -> str:
        return f"QueuedCommand({self.command!r}, already_queued={self.already_queued})"
