"""Which result is to blame for the end of a stream."""

from __future__ import annotations

import pytest

from distributor.agent.record import CommandRecord
from distributor.agent.session_state import SessionState
from distributor.v1 import agent_gateway_pb2 as gateway
from tests.support.scripted_gateway import welcome
from tests.support.session_script import OUT, PROFILE, acknowledged, commands, finish, opened, taken, work


@pytest.fixture
def record() -> CommandRecord:
    """Two results were sent on a stream that ended because of a message."""
    record = CommandRecord()
    state = opened(record)
    state.receive(commands(work("a"), work("b")), 0.0)
    finish(state, record, "a")
    finish(state, record, "b")
    assert len(taken(state).results) == 2
    assert (state.unanswered_results, state.lone_result) == (["a", "b"], "")
    record.suspects = {"a"}
    return record


def reopened(record: CommandRecord) -> SessionState:
    state = SessionState(PROFILE, record)
    state.hello(0.0)
    state.receive(welcome(), 0.0)
    return state


def send(state: SessionState) -> gateway.ConnectRequest:
    message = taken(state)
    state.sent(message, 0.0)
    return message


def answer(state: SessionState, message: gateway.ConnectRequest) -> None:
    reply = gateway.HeartbeatReply(sequence=message.heartbeat.sequence)
    state.receive(gateway.ConnectResponse(heartbeat_reply=reply), 0.0)


def names(message: gateway.ConnectRequest) -> list[str]:
    return [field.name for field, _ in message.ListFields()]


def test_a_suspect_is_sent_alone_once_all_before_it_was_read(record: CommandRecord) -> None:
    state = reopened(record)
    beat = send(state)
    assert names(beat) == ["heartbeat"]
    assert state.take() is None
    answer(state, beat)
    message = send(state)
    assert (names(message), [one.command_id for one in message.results]) == (["results"], ["a"])
    assert state.lone_result == "a"
    # Nothing follows before its acknowledgement, so that the end of the stream is its doing.
    assert state.take() is None
    state.receive(acknowledged("a"), 0.0)
    assert (state.lone_result, record.suspects) == ("", set())
    assert [one.command_id for one in send(state).results] == ["b"]


def test_suspects_are_tried_one_by_one(record: CommandRecord) -> None:
    record.suspects = {"a", "b"}
    state = reopened(record)
    tried = set()
    for _ in "ab":
        answer(state, send(state))
        (result,) = send(state).results
        tried.add(result.command_id)
        assert state.take() is None
        state.receive(acknowledged(result.command_id), 0.0)
    assert tried == {"a", "b"}


def test_a_heartbeat_after_the_suspect_could_be_to_blame_as_well(record: CommandRecord) -> None:
    state = reopened(record)
    answer(state, send(state))
    send(state)
    state.heartbeat(10.0)
    assert names(send(state)) == ["heartbeat"]
    assert (state.lone_result, state.unanswered_results) == ("", ["a"])


def test_output_of_a_suspect_goes_before_it_and_is_read_first() -> None:
    record = CommandRecord()
    record.start("a", "lease").window.append(OUT, b"abc")
    record.finish(gateway.Result(command_id="a", output_bytes=3))
    record.suspects = {"a"}
    state = reopened(record)
    message = send(state)
    assert [part.data for part in message.output] == [b"abc"]
    assert not message.results
    answer(state, message)
    # That heartbeat came before the output, in the same message.
    beat = send(state)
    assert names(beat) == ["heartbeat"]
    answer(state, beat)
    assert names(send(state)) == ["results"]
    assert state.lone_result == "a"


def test_a_suspect_that_is_delivered_again_while_its_result_is_unanswered_holds_up_nothing(
    record: CommandRecord,
) -> None:
    """The answer to its result under the old lease does not count, so that nothing else would end the trial."""
    state = reopened(record)
    answer(state, send(state))
    assert send(state).results
    state.receive(commands(work("a", attempt=2)), 0.0)
    state.receive(acknowledged_under("lease-a-1"), 0.0)
    message = send(state)
    assert [one.lease_id for one in message.received] == ["lease-a-2"]
    assert [one.lease_id for one in message.started] == ["lease-a-2"]
    assert [one.command_id for one in message.results] == ["b"]
    state.receive(acknowledged("b"), 0.0)
    answer(state, send(state))
    assert [(one.command_id, one.lease_id) for one in send(state).results] == [("a", "lease-a-2")]
    assert state.lone_result == "a"


def acknowledged_under(lease_id: str) -> gateway.ConnectResponse:
    ack = gateway.ResultAck(command_id="a", lease_id=lease_id, verdict=gateway.RESULT_VERDICT_LATE)
    return gateway.ConnectResponse(result_acks=[ack])
