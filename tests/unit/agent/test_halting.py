"""Emergency stops in a session: what they end, what they refuse, and what the agent says of them."""

from __future__ import annotations

from dataclasses import replace

from distributor.agent.actions import RefusedCommand, StartCommand, StopCause, StopCommand
from distributor.agent.record import CommandRecord
from distributor.agent.session_state import SessionState
from distributor.v1 import agent_gateway_pb2 as gateway
from tests.support.scripted_gateway import welcome
from tests.support.session_script import PROFILE, commands, finish, opened, refusal, taken, work

HALT = gateway.ConnectResponse(halt=gateway.Halt(stop_id="s1", reason="leak"))
RESUME = gateway.ConnectResponse(resume=gateway.Resume(stop_id="s1"))


def started(state: SessionState, command_id: str) -> None:
    """Let a command have started, and everything about it be sent."""
    state.receive(commands(work(command_id, "SLOW")), 0.0)
    actions = state.sent(taken(state), 0.0)
    assert [type(action) for action in actions] == [StartCommand]
    state.take()


def test_a_hello_says_that_the_agent_knows_stops() -> None:
    hello = SessionState(PROFILE, CommandRecord()).hello(0.0).hello
    assert hello.HasField("halts")
    assert hello.halts.stop_id == ""


def test_a_halt_ends_what_runs_and_the_agent_says_when_nothing_does() -> None:
    record = CommandRecord()
    state = opened(record)
    started(state, "a")
    assert state.receive(HALT, 1.0) == [StopCommand("a", StopCause.HALTED)]
    message = taken(state)
    assert [one.command_id for one in message.halted.running] == ["a"]
    assert message.heartbeat.credit == 0
    assert [problem.code for problem in message.heartbeat.problems] == ["emergency_stop"]
    finish(state, record, "a")
    message = taken(state)
    assert [result.command_id for result in message.results] == ["a"]
    assert (message.halted.stop_id, len(message.halted.running)) == ("s1", 0)


def test_nothing_starts_under_a_halt_but_control_commands() -> None:
    state = opened()
    state.receive(HALT, 0.0)
    assert refusal(state, commands(work("a", "SLOW"))).reason.code == "emergency_stop"
    actions = state.receive(commands(work("p", "PING")), 0.0)
    assert [type(action) for action in actions] in ([StartCommand], [])
    state.receive(RESUME, 0.0)
    assert taken(state).heartbeat.credit > 0
    started(state, "b")


def test_a_command_that_was_received_and_not_started_is_refused() -> None:
    state = opened()
    state.receive(commands(work("a", "SLOW")), 0.0)
    taken(state)
    assert state.receive(HALT, 0.0) == [RefusedCommand("a", 1, "emergency_stop")]
    assert [one.reason.code for one in taken(state).refused] == ["emergency_stop"]
    assert state.sent(gateway.ConnectRequest(received=[gateway.Received(command_id="a")]), 0.0) == []


def test_what_cannot_be_ended_is_named() -> None:
    record = CommandRecord()
    state = opened(record)
    started(state, "a")
    state.receive(HALT, 0.0)
    taken(state)
    state.could_not_stop("a", [gateway.SurvivingProcess(pid=12, name="sleep")])
    (running,) = taken(state).halted.running
    assert (running.command_id, running.survivors[0].pid) == ("a", 12)


def test_a_halt_outlasts_the_stream_and_is_named_in_the_next_hello() -> None:
    record = CommandRecord()
    opened(record).receive(HALT, 0.0)
    state = SessionState(PROFILE, record)
    assert state.hello(0.0).hello.halts.stop_id == "s1"
    state.receive(welcome(), 0.0)
    assert taken(state).halted.stop_id == "s1"
    assert refusal(state, commands(work("a", "SLOW"))).reason.code == "emergency_stop"


def test_a_welcome_with_a_halt_ends_what_ran_before_and_starts_nothing_that_waited() -> None:
    record = CommandRecord()
    state = opened(record)
    started(state, "a")
    state.receive(commands(work("b", "SLOW")), 0.0)
    taken(state)
    state = SessionState(replace(PROFILE), record)
    state.hello(1.0)
    response = welcome()
    response.welcome.halt.stop_id = "s1"
    actions = state.receive(response, 1.0)
    assert StopCommand("a", StopCause.HALTED) in actions
    assert not any(isinstance(action, StartCommand) for action in actions)
    message = taken(state)
    assert [one.command_id for one in message.refused] == ["b"]
    assert [one.command_id for one in message.halted.running] == ["a"]


def test_a_durable_record_is_written_before_the_agent_says_that_nothing_runs() -> None:
    record = CommandRecord(durable=True)
    state = opened(record)
    state.receive(HALT, 0.0)
    assert not taken(state).HasField("halted")
    record.halt.take()
    record.halt.succeeded()
    state.journal_written(0.0)
    assert taken(state).halted.stop_id == "s1"
