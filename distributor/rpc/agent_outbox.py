"""Collects what must be sent to one agent and packs it into few messages."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from distributor.model.agent_report import Answers, LeaseRef, OutputAnswer, ResultAnswer
from distributor.model.agent_session import MAX_ITEMS_PER_MESSAGE
from distributor.model.delivery import Claim, ClaimedCommand, CompletionOutcome
from distributor.v1 import agent_gateway_pb2 as pb

MAX_EARLY_CANCELS: Final = 1_000
MAX_COMMANDS_BYTES: Final = 3 * 1_048_576
"""Commands in one message: with overhead, they fit the 4 MiB that gRPC clients accept by default."""

_VERDICTS: Final = {
    CompletionOutcome.STORED: pb.RESULT_VERDICT_STORED,
    CompletionOutcome.RUN_AGAIN: pb.RESULT_VERDICT_STORED,
    CompletionOutcome.LATE: pb.RESULT_VERDICT_LATE,
    CompletionOutcome.UNKNOWN: pb.RESULT_VERDICT_REJECTED,
    CompletionOutcome.FOREIGN: pb.RESULT_VERDICT_REJECTED,
    CompletionOutcome.STALE: pb.RESULT_VERDICT_REJECTED,
}


class _Batch(NamedTuple):
    """Unsent commands of one claim, and the last heartbeat answered before the claim."""

    lease_id: str
    after_heartbeat: int
    commands: deque[ClaimedCommand]


class Outgoing(NamedTuple):
    """The next message, or None, and the commands taken for it.

    `sent` lists commands in the message, `unreadable` commands whose stored bytes are invalid;
    both as (command id, lease id).
    """

    message: pb.ConnectResponse | None
    sent: list[tuple[str, str]]
    unreadable: list[tuple[str, str]]


class AgentOutbox:
    """Bounded by the agent's credit and capacity, and because reading from the agent pauses while many acks wait.

    Send order: control parts, acknowledgements, commands. A cancel follows its command in a later message, since an
    agent that does not know the command yet would run it afterwards; and it precedes a later attempt.
    """

    __slots__ = ("_batches", "_cancels", "_control", "_early_cancels", "_later_cancels", "_output_acks", "_result_acks")

    def __init__(self) -> None:
        self._control: pb.ConnectResponse | None = None
        self._cancels: dict[LeaseRef, str] = {}
        """Cancels ready to send, with their reasons."""
        self._later_cancels: dict[str, str] = {}
        """Cancels of commands that wait here unsent."""
        self._early_cancels: dict[str, str] = {}
        """Cancels of commands that are not here yet: news of a cancel may overtake the reply to the claim."""
        self._result_acks: deque[ResultAnswer] = deque()
        self._output_acks: dict[LeaseRef, OutputAnswer] = {}
        self._batches: deque[_Batch] = deque()

    def control(self) -> pb.ConnectResponse:
        """The next message, to fill in its single-value parts: welcome, heartbeat reply, drain."""
        if self._control is None:
            self._control = pb.ConnectResponse()
        return self._control

    def answer(self, answers: Answers) -> None:
        """Acknowledge results and output. A later output acknowledgement replaces an earlier one."""
        self._result_acks.extend(answers.results)
        self._output_acks.update((answer.lease, answer) for answer in answers.outputs)

    @property
    def waiting(self) -> bool:
        """Whether anything waits to be sent."""
        return bool(self._batches or self._result_acks or self._control or self._output_acks or self._cancels)

    @property
    def waiting_acks(self) -> int:
        """Number of unsent acknowledgements."""
        return len(self._result_acks) + len(self._output_acks)

    def cancel(self, command_id: str, lease_id: str, reason: str) -> None:
        """Cancel a command that the agent has or that waits here."""
        if self._is_unsent(command_id, lease_id):
            self._later_cancels[command_id] = reason
        else:
            self._cancels[LeaseRef(command_id, lease_id)] = reason

    def cancel_early(self, command_id: str, reason: str) -> None:
        """Cancel a command as soon as it has been sent, if ever. Only the latest 1,000 are retained."""
        self._early_cancels[command_id] = reason
        if len(self._early_cancels) > MAX_EARLY_CANCELS:
            del self._early_cancels[next(iter(self._early_cancels))]

    def withdraw(self, command_id: str, lease_id: str, reason: str | None) -> bool:
        """Do not send a command. If it was sent, cancel it with this reason; None lets it continue.

        Return whether it was sent.
        """
        if not self._is_unsent(command_id, lease_id):
            if reason is not None:
                self._cancels[LeaseRef(command_id, lease_id)] = reason
            return True
        self._later_cancels.pop(command_id, None)
        kept = [
            batch._replace(commands=deque(command for command in batch.commands if command.command_id != command_id))
            if batch.lease_id == lease_id
            else batch
            for batch in self._batches
        ]
        self._batches = deque(batch for batch in kept if batch.commands)
        return False

    def deliver(self, claim: Claim, after_heartbeat: int) -> list[tuple[str, str]]:
        """Queue the commands of a claim for sending. Return those cancelled early, as (command id, reason)."""
        self._batches.append(_Batch(claim.lease_id, after_heartbeat, deque(claim.commands)))
        cancelled: list[tuple[str, str]] = []
        if self._early_cancels:
            for command in claim.commands:
                if (reason := self._early_cancels.pop(command.command_id, None)) is not None:
                    cancelled.append((command.command_id, reason))
            self._later_cancels.update(cancelled)
        return cancelled

    def unsent(self) -> list[tuple[str, str]]:
        """Drop and return commands that were never sent, as (command id, lease id)."""
        unsent = [(command.command_id, batch.lease_id) for batch in self._batches for command in batch.commands]
        self._batches.clear()
        return unsent

    def take(self) -> Outgoing:
        """Build the next message."""
        message, self._control = self._control or pb.ConnectResponse(), None
        if self._cancels:
            self._take_cancels(message)
        if self._result_acks:
            self._take_result_acks(message)
        if self._output_acks:
            self._take_output_acks(message)
        sent: list[tuple[str, str]] = []
        unreadable: list[tuple[str, str]] = []
        # Send remaining cancels and result acks first: a cancel must not hit a later attempt, and an agent must not
        # start another run of a command before its previous result is acknowledged.
        if self._batches and not self._cancels and not self._result_acks:
            self._take_commands(message, sent, unreadable)
        return Outgoing(message if sent or message.ByteSize() else None, sent, unreadable)

    def _is_unsent(self, command_id: str, lease_id: str) -> bool:
        return any(
            command.command_id == command_id
            for batch in self._batches
            if batch.lease_id == lease_id
            for command in batch.commands
        )

    def _take_cancels(self, message: pb.ConnectResponse) -> None:
        for lease in list(self._cancels)[:MAX_ITEMS_PER_MESSAGE]:
            message.cancels.add(command_id=lease.command_id, lease_id=lease.lease_id, reason=self._cancels.pop(lease))

    def _take_result_acks(self, message: pb.ConnectResponse) -> None:
        acks = message.result_acks
        for _ in range(min(len(self._result_acks), MAX_ITEMS_PER_MESSAGE)):
            (command_id, lease_id), outcome, fault = self._result_acks.popleft()
            if fault.code:
                rejected = acks.add(command_id=command_id, lease_id=lease_id, verdict=pb.RESULT_VERDICT_REJECTED)
                rejected.reason.code, rejected.reason.message = fault
            else:
                acks.add(command_id=command_id, lease_id=lease_id, verdict=_VERDICTS[outcome])

    def _take_output_acks(self, message: pb.ConnectResponse) -> None:
        for lease in list(self._output_acks)[:MAX_ITEMS_PER_MESSAGE]:
            _, offset, fault = self._output_acks.pop(lease)
            ack = message.output_acks.add(command_id=lease.command_id, lease_id=lease.lease_id, offset=offset)
            if fault.code:
                ack.reason.code, ack.reason.message = fault

    def _take_commands(
        self, message: pb.ConnectResponse, sent: list[tuple[str, str]], unreadable: list[tuple[str, str]]
    ) -> None:
        """Add commands to the message, and to the list of those sent or of those that are unreadable."""
        lease_id, after_heartbeat, commands = self._batches[0]
        assignments = message.commands.assignments
        bytes_left = MAX_COMMANDS_BYTES
        while commands and len(sent) < MAX_ITEMS_PER_MESSAGE:
            # A claim is bounded by what its commands take in the store, where they may be compressed.
            bytes_left -= len(commands[0].encoded)
            if bytes_left < 0 and sent:
                break
            claimed = commands.popleft()
            reason = self._later_cancels.pop(claimed.command_id, None)
            if not _read(assignments.add(attempt=claimed.attempt, lease_id=lease_id), claimed):
                del assignments[-1]
                unreadable.append((claimed.command_id, lease_id))
                continue
            sent.append((claimed.command_id, lease_id))
            if reason is not None:
                self._cancels[LeaseRef(claimed.command_id, lease_id)] = reason
        if not commands:
            self._batches.popleft()
        if sent:
            message.commands.after_heartbeat = after_heartbeat
        else:
            message.ClearField("commands")


def _read(assignment: pb.Assignment, claimed: ClaimedCommand) -> bool:
    """Parse the stored command; False if the bytes are not this command, as other programs may write to Valkey."""
    try:
        assignment.command.ParseFromString(claimed.encoded)
    except (DecodeError, UnicodeDecodeError):
        return False
    return assignment.command.command_id == claimed.command_id
