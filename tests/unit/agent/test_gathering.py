"""When parts of messages wait for others to travel with."""

from __future__ import annotations

import pytest

from distributor.agent.gathering import GATHER_SECONDS, Gathering
from distributor.agent.outbox import MAX_PARTS
from distributor.agent.record import CommandRecord
from distributor.agent.session_state import SessionState
from distributor.v1 import agent_gateway_pb2 as gateway
from tests.support.session_script import OUT, commands, finish, opened, taken, work


@pytest.mark.parametrize("others_run", [False, True])
def test_nothing_waits_without_a_reason(others_run: bool) -> None:
    assert Gathering().until(1.0, others_run) is None


def test_handlers_called_together_are_waited_for_until_the_last_has_ended() -> None:
    gathering = Gathering()
    gathering.expect("a", 1.0)
    gathering.expect("b", 1.001)
    gathering.ready("a")
    assert gathering.until(1.001, others_run=True) == 1.0 + GATHER_SECONDS
    gathering.ready("b")
    assert gathering.until(1.001, others_run=True) is None


def test_a_slow_handler_is_waited_for_once() -> None:
    gathering = Gathering()
    gathering.expect("slow", 1.0)
    assert gathering.until(1.0 + GATHER_SECONDS, others_run=True) is None
    gathering.expect("quick", 2.0)
    assert gathering.until(2.0, others_run=True) == 2.0 + GATHER_SECONDS
    gathering.ready("quick")
    assert gathering.until(2.0, others_run=True) is None


def test_results_that_follow_others_wait_while_commands_run() -> None:
    gathering = Gathering()
    gathering.results_sent(1.0)
    assert gathering.until(1.001, others_run=True) == 1.0 + GATHER_SECONDS
    assert gathering.until(1.001, others_run=False) is None
    assert gathering.until(1.0 + GATHER_SECONDS, others_run=True) is None


# The session


def test_a_result_waits_a_moment_for_a_received_that_is_being_written() -> None:
    record = CommandRecord(durable=True)
    state = opened(record)
    record.start("done", "lease")
    finish(state, record, "done")
    record.unwritten.take()
    record.unwritten.succeeded()
    state.journal_written(1.0)
    state.receive(commands(work("new", "SLOW")), 1.0)
    assert state.gathers_until(1.0) == 1.0 + GATHER_SECONDS
    # The disk is slow.
    assert state.gathers_until(1.0 + GATHER_SECONDS) is None
    message = taken(state)
    assert [result.command_id for result in message.results] == ["done"]
    assert not message.received


def running(*command_ids: str) -> tuple[CommandRecord, SessionState]:
    """A session whose commands were called at 1.0, with their Received on the wire."""
    record = CommandRecord()
    state = opened(record)
    state.receive(commands(*(work(command_id, "SLOW") for command_id in command_ids)), 0.5)
    assert state.gathers_until(0.5) is None, "Received leaves at once: handlers wait for it"
    state.sent(taken(state), 1.0)
    return record, state


def test_started_waits_for_a_quick_result() -> None:
    record, state = running("a")
    assert state.gathers_until(1.0) == 1.0 + GATHER_SECONDS
    finish(state, record, "a")
    assert state.gathers_until(1.0) is None
    message = taken(state)
    assert ([len(message.started), len(message.results)]) == [1, 1]


def test_started_does_not_wait_for_a_slow_result() -> None:
    _, state = running("a")
    assert state.gathers_until(1.0 + GATHER_SECONDS) is None
    assert len(taken(state).started) == 1


def test_results_of_commands_that_came_together_wait_for_each_other() -> None:
    record, state = running("a", "b")
    finish(state, record, "a")
    assert state.gathers_until(1.0) == 1.0 + GATHER_SECONDS
    finish(state, record, "b")
    assert state.gathers_until(1.0) is None
    assert len(taken(state).results) == 2


def test_output_waits_for_the_result_that_follows_at_once() -> None:
    record, state = running("a")
    held = record.get("a")
    assert held
    held.window.append(OUT, b"hello")
    state.output_written("a")
    assert state.gathers_until(1.0) == 1.0 + GATHER_SECONDS
    finish(state, record, "a")
    message = taken(state)
    assert [len(message.started), len(message.output), len(message.results)] == [1, 1, 1]


@pytest.mark.parametrize("urgent", ["heartbeat", "cancel", "command"])
def test_what_is_urgent_takes_the_others_along(urgent: str) -> None:
    _, state = running("a")
    match urgent:
        case "heartbeat":
            state.heartbeat(1.0)
        case "cancel":
            state.receive(gateway.ConnectResponse(cancels=[gateway.Cancel(command_id="a")]), 1.0)
        case "command":
            state.receive(commands(work("b", "SLOW")), 1.0)
    assert state.gathers_until(1.0) is None
    assert len(taken(state).started) == 1


def test_more_than_a_message_holds_does_not_wait() -> None:
    record = CommandRecord()
    state = opened(record)
    for number in range(MAX_PARTS + 1):
        record.start(str(number), "lease")
    record.start("other", "lease")
    state.sent(gateway.ConnectRequest(results=[gateway.Result()]), 1.0)
    for number in range(MAX_PARTS):
        finish(state, record, str(number))
    assert state.gathers_until(1.0) == 1.0 + GATHER_SECONDS
    finish(state, record, str(MAX_PARTS))
    assert state.gathers_until(1.0) is None


def test_nothing_to_send_is_nothing_to_wait_for() -> None:
    _, state = running("a")
    taken(state)
    assert state.gathers_until(1.0) is None
