"""A command that was received and never started is never taken for one whose outcome is unknown."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from distributor.agent.actions import RefusedCommand, StartCommand
from distributor.agent.journal_entries import CommandEntry, Stage
from distributor.agent.record import CommandRecord
from distributor.agent.session_state import Phase, SessionState
from distributor.model.command import Reason
from distributor.v1 import agent_gateway_pb2 as gateway
from tests.support.scripted_gateway import welcome
from tests.support.session_script import PROFILE, commands, opened, taken, work

CANCEL = gateway.ConnectResponse(cancels=[gateway.Cancel(command_id="a", lease_id="lease-a-1")])
LATE = 1_000.0
KEEP = (gateway.HeldCommandVerdict(command_id="a", verdict=gateway.VERDICT_KEEP),)


class Desk:
    """A session with a journal, and what the journal has."""

    def __init__(self) -> None:
        self.record = CommandRecord(durable=True)
        self.state = opened(self.record)
        self.disk: dict[str, CommandEntry] = {}

    def write(self) -> None:
        for command_id in self.record.unwritten.take():
            entry = self.record.entry(command_id)
            if entry is None:
                self.disk.pop(command_id, None)
            else:
                self.disk[command_id] = entry
        self.record.unwritten.succeeded()

    def receive(self, start_written: bool = True) -> None:
        """A command whose Received is on the wire and whose start is written, or noted."""
        self.state.receive(commands(work("a", "SLOW")), 0.0)
        self.write()
        self.state.journal_written(0.0)
        message = taken(self.state)
        assert message.received
        self.state.sent(message, 0.0)
        if start_written:
            self.write()
            assert self.disk["a"].stage is Stage.STARTED

    def messages(self) -> list[gateway.ConnectRequest]:
        return list(iter(self.state.take, None))

    def reports(self) -> list[str]:
        """The reports that leave now, that the command has not started."""
        messages = self.messages()
        refused = [part.command_id for message in messages for part in message.refused]
        return refused + [part.command_id for message in messages for part in message.cancel_reports]

    def reconnect(self) -> gateway.Hello:
        self.state = SessionState(PROFILE, self.record)
        return self.state.hello(LATE).hello

    def stages(self) -> dict[str, Stage]:
        return {command_id: entry.stage for command_id, entry in self.disk.items()}

    def confirm(self) -> None:
        """The server answers a heartbeat that was sent after everything else."""
        self.state.heartbeat(LATE)
        (message,) = self.messages()
        reply = gateway.HeartbeatReply(sequence=message.heartbeat.sequence)
        self.state.receive(gateway.ConnectResponse(heartbeat_reply=reply), LATE)


def stale(desk: Desk) -> None:
    assert desk.state.journal_written(LATE) == [RefusedCommand("a", 1, "stale")]


def cancelled(desk: Desk) -> None:
    assert desk.state.receive(CANCEL, 0.0) == []


WAYS = pytest.mark.parametrize("withdraw", [stale, cancelled])
Withdraw = Callable[[Desk], None]


@WAYS
def test_the_report_leaves_once_the_journal_no_longer_has_the_start(withdraw: Withdraw) -> None:
    """A crash in between would otherwise make the outcome of a refused command unknown."""
    desk = Desk()
    desk.receive()
    withdraw(desk)
    assert desk.record.unwritten.urgent
    assert desk.reports() == []
    desk.write()
    assert desk.stages() == {"a": Stage.RECEIVED}
    assert desk.reports() == ["a"]


@WAYS
def test_a_report_that_was_lost_with_its_stream_is_made_again(withdraw: Withdraw) -> None:
    """The server has stored the Received. A Hello without the command would say that it is lost."""
    desk = Desk()
    desk.receive()
    withdraw(desk)
    desk.write()
    assert desk.reports() == ["a"]
    assert [one.command_id for one in desk.reconnect().running] == ["a"]
    desk.state.receive(welcome(verdicts=KEEP), LATE)
    assert desk.reports() == ["a"]


@WAYS
def test_the_command_is_forgotten_once_a_later_heartbeat_is_answered(withdraw: Withdraw) -> None:
    desk = Desk()
    desk.receive()
    withdraw(desk)
    desk.write()
    desk.state.heartbeat(LATE)
    (message,) = desk.messages()
    assert message.refused or message.cancel_reports
    # This one came before the report, as the parts of a message are read in order.
    reply = gateway.HeartbeatReply(sequence=message.heartbeat.sequence)
    desk.state.receive(gateway.ConnectResponse(heartbeat_reply=reply), LATE)
    assert desk.record.size == 1
    desk.confirm()
    assert desk.record.size == 0
    desk.write()
    assert desk.disk == {}


def test_a_command_that_the_server_has_taken_back_is_forgotten() -> None:
    desk = Desk()
    desk.receive()
    stale(desk)
    desk.write()
    desk.reconnect()
    stop = gateway.HeldCommandVerdict(command_id="a", verdict=gateway.VERDICT_STOP)
    desk.state.receive(welcome(verdicts=(stop,)), LATE)
    assert desk.record.size == 0
    assert desk.reports() == []


def test_a_withdrawn_command_uses_no_capacity_and_may_be_delivered_again() -> None:
    desk = Desk()
    desk.receive(start_written=False)
    credit = desk.state.credit
    desk.state.receive(CANCEL, 0.0)
    assert desk.state.credit == credit + 1
    assert desk.record.empty
    desk.state.receive(commands(work("a", "SLOW", attempt=2)), 0.0)
    held = desk.record.get("a")
    assert held
    assert (held.unstarted, held.lease_id, desk.state.credit) == (False, "lease-a-2", credit)


def test_an_agent_that_leaves_waits_for_the_journal_before_its_goodbye() -> None:
    desk = Desk()
    desk.receive()
    desk.state.leave("shift over", 0.0)
    stale(desk)
    assert not any(message.HasField("goodbye") for message in desk.messages())
    desk.write()
    *_, last = desk.messages()
    assert last.goodbye.reason == "shift over"
    assert desk.state.phase is Phase.GONE


def test_a_journal_that_fails_holds_up_no_refusal_of_a_command_that_it_does_not_call_started() -> None:
    desk = Desk()
    desk.receive(start_written=False)
    desk.record.unwritten.take()
    desk.record.unwritten.failed()
    desk.record.journal_problem, desk.record.journal_failing = Reason("journal_full", "full"), True
    assert desk.state.journal_changed(0.0) == [RefusedCommand("a", 1, "journal_full")]
    assert desk.reports() == ["a"]


def test_what_the_journal_has_as_started_starts_although_it_fails_now() -> None:
    desk = Desk()
    desk.receive()
    desk.record.journal_problem, desk.record.journal_failing = Reason("journal_full", "full"), True
    (start,) = desk.state.journal_changed(0.0)
    assert isinstance(start, StartCommand)


def test_a_report_under_an_earlier_lease_does_not_forget_the_command_under_a_later_one() -> None:
    """Its Received under the later lease is on the wire, and the report on that waits for the journal."""
    desk = Desk()
    desk.receive()
    cancelled(desk)
    desk.write()
    assert desk.reports() == ["a"]
    desk.state.receive(commands(work("a", "SLOW", attempt=2)), 0.0)
    desk.write()
    message = taken(desk.state)
    assert [one.lease_id for one in message.received] == ["lease-a-2"]
    desk.state.sent(message, 0.0)
    desk.write()
    stale_again = desk.state.journal_written(LATE)
    assert stale_again == [RefusedCommand("a", 2, "stale")]
    desk.confirm()
    assert [one.lease_id for one in desk.reconnect().running] == ["lease-a-2"]
