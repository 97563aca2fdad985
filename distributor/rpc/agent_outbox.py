"""What is to be sent to one agent, put together into as few messages as will hold it."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from distributor.dispatch.agent_reports import Answers, ResultAnswer
from distributor.dispatch.ports import Claim, ClaimedCommand, EndingOutcome
from distributor.model.agent_session import MOST_IN_A_MESSAGE
from distributor.v1 import agent_gateway_pb2 as pb

_VERDICTS: Final = {
    EndingOutcome.STORED: pb.RESULT_VERDICT_STORED,
    EndingOutcome.RUN_AGAIN: pb.RESULT_VERDICT_STORED,
    EndingOutcome.LATE: pb.RESULT_VERDICT_LATE,
    EndingOutcome.UNKNOWN: pb.RESULT_VERDICT_REJECTED,
    EndingOutcome.FOREIGN: pb.RESULT_VERDICT_REJECTED,
    EndingOutcome.STALE: pb.RESULT_VERDICT_REJECTED,
}


class _Batch(NamedTuple):
    """Commands of one claim that have not been sent, and the heartbeat that was answered when they were claimed."""

    lease_id: str
    after_heartbeat: int
    commands: deque[ClaimedCommand]


class AgentOutbox:
    """Bounded without a bound of its own: by the agent's credit, its capacity, and one answer for each report.

    Order of sending: control, acknowledgements, commands.
    """

    __slots__ = ("_batches", "_cancels", "_control", "_output_acks", "_result_acks")

    def __init__(self) -> None:
        self._control: pb.ConnectResponse | None = None
        self._cancels: dict[str, str] = {}
        self._result_acks: deque[ResultAnswer] = deque()
        self._output_acks: dict[str, int] = {}
        self._batches: deque[_Batch] = deque()

    def control(self) -> pb.ConnectResponse:
        """The message that goes next, for the parts of which there is one: welcome, heartbeat reply, drain, stop."""
        if self._control is None:
            self._control = pb.ConnectResponse()
        return self._control

    def answer(self, answers: Answers) -> None:
        """Acknowledge results and output. Later acknowledgements of output replace earlier ones."""
        self._result_acks.extend(answers.results)
        self._output_acks.update(answers.outputs)

    def cancel(self, command_id: str, reason: str) -> None:
        """Ask for the end of a command."""
        self._cancels[command_id] = reason

    def deliver(self, claim: Claim, after_heartbeat: int) -> None:
        """Send the commands of a claim."""
        self._batches.append(_Batch(claim.lease_id, after_heartbeat, deque(claim.commands)))

    def unsent(self) -> list[tuple[str, str]]:
        """The commands that were never sent, as (command id, lease id); they are not sent any more."""
        unsent = [(command.command_id, batch.lease_id) for batch in self._batches for command in batch.commands]
        self._batches.clear()
        return unsent

    def take(self) -> tuple[pb.ConnectResponse | None, list[str]]:
        """The next message, None where there is nothing to send, and the ids of the commands in it."""
        message, self._control = self._control or pb.ConnectResponse(), None
        self._take_cancels(message)
        for _ in range(min(len(self._result_acks), MOST_IN_A_MESSAGE)):
            _fill_ack(message.result_acks.add(), self._result_acks.popleft())
        for command_id in list(self._output_acks)[:MOST_IN_A_MESSAGE]:
            message.output_acks.add(command_id=command_id, offset=self._output_acks.pop(command_id))
        sent = self._take_commands(message)
        return (message if message.ByteSize() else None), sent

    def _take_cancels(self, message: pb.ConnectResponse) -> None:
        if not self._cancels:
            return
        # A cancel never overtakes its command: the agent would not know it, and run it afterwards.
        unsent = {command.command_id for batch in self._batches for command in batch.commands}
        ready = [command_id for command_id in self._cancels if command_id not in unsent]
        for command_id in ready[:MOST_IN_A_MESSAGE]:
            message.cancels.add(command_id=command_id, reason=self._cancels.pop(command_id))

    def _take_commands(self, message: pb.ConnectResponse) -> list[str]:
        if not self._batches:
            return []
        lease_id, after_heartbeat, commands = self._batches[0]
        message.commands.after_heartbeat = after_heartbeat
        sent: list[str] = []
        while commands and len(sent) < MOST_IN_A_MESSAGE:
            claimed = commands.popleft()
            assignment = message.commands.assignments.add(attempt=claimed.attempt, lease_id=lease_id)
            assignment.command.ParseFromString(claimed.encoded)
            sent.append(claimed.command_id)
        if not commands:
            self._batches.popleft()
        return sent


def _fill_ack(ack: pb.ResultAck, answer: ResultAnswer) -> None:
    ack.command_id = answer.command_id
    ack.verdict = pb.RESULT_VERDICT_REJECTED if answer.fault.code else _VERDICTS[answer.outcome]
    if answer.fault.code:
        ack.reason.code, ack.reason.message = answer.fault
