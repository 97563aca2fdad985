"""What a session leaves to the journal, and what it waits for."""

from __future__ import annotations

from distributor.agent.actions import StartCommand
from distributor.agent.journal_entries import Stage
from distributor.agent.record import CommandRecord
from distributor.agent.session_state import SessionState
from tests.support.session_script import PROFILE, commands, opened, taken, work


def written(record: CommandRecord) -> dict[str, Stage]:
    """Have the journal write what waits; the stage that it has of each command."""
    entries = [record.entry(command_id) for command_id in record.unwritten.take()]
    record.unwritten.succeeded()
    return {entry.command_id: entry.stage for entry in entries if entry is not None}


def received(state: SessionState, record: CommandRecord) -> None:
    """A command came, the journal has it, and its Received is on the wire."""
    assert state.receive(commands(work("a", "SLOW")), 0.0) == []
    assert written(record) == {"a": Stage.RECEIVED}
    assert state.journal_written(0.0) == []
    message = state.take()
    while message is not None and not message.received:
        message = state.take()
    assert message is not None
    assert state.sent(message, 0.0) == []


def test_a_command_is_reported_as_received_once_the_journal_has_it() -> None:
    record = CommandRecord(durable=True)
    state = opened(record)
    state.receive(commands(work("a", "SLOW")), 0.0)
    assert state.take() is None
    assert written(record) == {"a": Stage.RECEIVED}
    state.journal_written(0.0)
    assert [part.command_id for part in taken(state).received] == ["a"]


def test_a_handler_is_called_once_the_journal_has_its_start() -> None:
    """An agent that crashes in between must not take it for one that it never started."""
    record = CommandRecord(durable=True)
    state = opened(record)
    received(state, record)
    assert written(record) == {"a": Stage.STARTED}
    (start,) = state.journal_written(0.0)
    assert isinstance(start, StartCommand)
    assert start.assignment.command.command_id == "a"


def test_a_hello_lists_only_what_the_journal_has() -> None:
    """The server takes a listed command for received, so an agent that crashes must find it in its journal."""
    record = CommandRecord(durable=True)
    opened(record).receive(commands(work("a", "SLOW")), 0.0)
    assert not SessionState(PROFILE, record).hello(1.0).hello.running
    assert written(record) == {}
    received(opened(record), record)
    (listed,) = SessionState(PROFILE, record).hello(1.0).hello.running
    assert listed.command_id == "a"
