"""Opening a session, taking commands, heartbeats."""

from __future__ import annotations

import pytest

from distributor.agent.actions import (
    OutputRoom,
    SessionOpened,
    StartCommand,
)
from distributor.agent.record import CommandRecord
from distributor.agent.session_state import SessionState
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.wire.limits import MAX_HELD
from tests.support.scripted_gateway import assignment, welcome
from tests.support.session_script import OUT, PROFILE, acknowledged, commands, finish, opened, refusal, taken

# Opening


def test_hello_says_who_the_agent_is_and_what_it_holds() -> None:
    record = CommandRecord()
    record.start("running", "lease-r").window.append(OUT, b"abc")
    record.start("done", "lease-d").window.append(OUT, b"xy")
    record.finish(gateway.Result(command_id="done"))
    record.start("disowned", "lease-x").disowned = True
    hello = SessionState(PROFILE, record).hello(0.0).hello
    assert (hello.agent_id, hello.instance_id, hello.capacity) == ("agent123", "instance", 2)
    assert (list(hello.types), dict(hello.labels), hello.agent_version) == (["PING", "STOP"], {"zone": "a"}, "test")
    assert [(c.command_id, c.lease_id, c.output_offset) for c in hello.running] == [("running", "lease-r", 3)]
    assert [(c.command_id, c.lease_id, c.output_offset) for c in hello.unacknowledged] == [("done", "lease-d", 2)]


def test_nothing_is_sent_before_the_welcome() -> None:
    record = CommandRecord()
    record.start("a", "lease")
    state = SessionState(PROFILE, record)
    state.hello(0.0)
    finish(state, record, "a")
    assert state.take() is None
    assert state.receive(welcome(), 0.0) == [SessionOpened(1, ""), OutputRoom("a")]
    assert [result.command_id for result in taken(state).results] == ["a"]
    assert state.take() is None


def test_a_second_welcome_is_ignored() -> None:
    state = opened()
    assert state.receive(welcome(heartbeat_interval=1), 0.0) == []
    assert state.heartbeat_interval == 10.0


# Commands


def test_a_command_is_received_and_started_in_one_message_with_its_result() -> None:
    record = CommandRecord()
    state = opened(record)
    given = assignment("a")
    assert state.receive(commands(given), 1.0) == [StartCommand(given)]
    finish(state, record, "a")
    message = taken(state)
    assert [(r.command_id, r.lease_id) for r in message.received] == [("a", "lease-a-1")]
    assert [(s.command_id, s.lease_id) for s in message.started] == [("a", "lease-a-1")]
    assert [r.command_id for r in message.results] == ["a"]


@pytest.mark.parametrize(
    ("after_heartbeat", "now", "starts"),
    [
        (0, 14.9, True),  # the Hello was sent at 0, and commands start within 15 s
        (0, 15.0, False),
        (1, 24.9, True),  # the first heartbeat was sent at 10
        (1, 25.0, False),
        (2, 11.0, False),  # never sent
    ],
)
def test_a_command_starts_only_while_its_heartbeat_is_fresh(after_heartbeat: int, now: float, starts: bool) -> None:
    state = opened()
    state.heartbeat(10.0)
    state.take()
    message = commands(assignment("a"), after_heartbeat=after_heartbeat)
    if starts:
        assert len(state.receive(message, now)) == 1
    else:
        assert refusal(state, message, now).code == gateway.REFUSAL_CODE_STALE


def test_old_heartbeats_are_forgotten() -> None:
    state = opened()
    for beat in range(1, 1_000):
        state.heartbeat(beat * 10.0)
        state.take()
    assert len(state._sent_at) <= 2


@pytest.mark.parametrize(
    ("command_type", "code"),
    [("DANCE", "unsupported_type"), ("EXEC", "exec_not_allowed")],
)
def test_what_the_agent_cannot_or_may_not_do_is_refused(command_type: str, code: str) -> None:
    refused = refusal(opened(), commands(assignment("a", command_type)))
    assert (refused.code, refused.reason.code) == (gateway.REFUSAL_CODE_UNSUPPORTED, code)
    assert (refused.command_id, refused.lease_id) == ("a", "lease-a-1")


def test_a_command_over_the_capacity_is_refused_as_busy() -> None:
    state = opened()
    state.receive(commands(assignment("a"), assignment("b")), 0.0)
    state.take()
    refused = refusal(state, commands(assignment("c")))
    assert (refused.code, refused.reason.message) == (
        gateway.REFUSAL_CODE_BUSY,
        "the agent runs 2 of at most 2 commands",
    )


def test_a_command_refused_as_stale_or_busy_may_be_started_later() -> None:
    record = CommandRecord()
    state = opened(record)
    assert refusal(state, commands(assignment("a")), now=15.0).code == gateway.REFUSAL_CODE_STALE
    state.heartbeat(16.0)
    assert len(state.receive(commands(assignment("a", attempt=2), after_heartbeat=1), 16.0)) == 1


@pytest.mark.parametrize("stage", ["running", "unacknowledged", "acknowledged", "rejected transient"])
def test_a_command_that_was_started_is_never_started_again(stage: str) -> None:
    record = CommandRecord()
    state = opened(record)
    state.receive(commands(assignment("a")), 0.0)
    if stage != "running":
        finish(state, record, "a", transient="transient" in stage)
    if stage == "acknowledged":
        state.receive(acknowledged("a"), 0.0)
    if stage == "rejected transient":
        state.receive(acknowledged("a", verdict=gateway.RESULT_VERDICT_REJECTED), 0.0)
    state.take()
    refused = refusal(state, commands(assignment("a", attempt=2)))
    assert (refused.code, refused.lease_id) == (gateway.REFUSAL_CODE_DUPLICATE, "lease-a-2")


def test_after_a_stored_transient_failure_the_next_attempt_starts() -> None:
    record = CommandRecord()
    state = opened(record)
    state.receive(commands(assignment("a")), 0.0)
    finish(state, record, "a", transient=True)
    message = acknowledged("a")
    message.MergeFrom(commands(assignment("a", attempt=2)))
    assert len(state.receive(message, 0.0)) == 1


def test_no_more_is_accepted_than_the_next_hello_may_list() -> None:
    record = CommandRecord()
    for number in range(MAX_HELD):
        record.start(str(number), "lease")
        record.finish(gateway.Result(command_id=str(number)))
    state = opened(record)
    assert state.credit == 0
    state.receive(acknowledged("0"), 0.0)
    assert state.credit == 1


# Heartbeats


def test_a_heartbeat_tells_credit_and_load() -> None:
    state = opened()
    state.receive(commands(assignment("a")), 0.0)
    taken(state)
    state.heartbeat(1.0, load=0.5)
    beat = taken(state).heartbeat
    assert (beat.sequence, beat.credit, beat.running, beat.load) == (1, 1, 1, 0.5)


def test_a_heartbeat_leaves_out_what_was_not_said_to_be_received_before_it() -> None:
    """In the order of the parts it comes before the Received of its own message."""
    record = CommandRecord()
    state = opened(record)
    state.receive(commands(assignment("a"), assignment("b")), 0.0)
    finish(state, record, "b")
    state.heartbeat(1.0)
    message = taken(state)
    assert (message.heartbeat.credit, message.heartbeat.running) == (2, 0)
    assert [one.command_id for one in message.received] == ["a", "b"]
    state.heartbeat(2.0)
    beat = taken(state).heartbeat
    assert (beat.credit, beat.running) == (1, 1)


def test_one_that_takes_no_more_has_no_credit_whatever_is_unsaid() -> None:
    state = opened()
    state.receive(commands(assignment("a")), 0.0)
    state.stop_accepting(1.0)
    assert taken(state).heartbeat.credit == 0


def test_the_sequence_has_no_gaps_when_a_heartbeat_waits_to_be_sent() -> None:
    state = opened()
    state.heartbeat(10.0)
    state.heartbeat(20.0)
    assert taken(state).heartbeat.sequence == 1
    state.heartbeat(30.0)
    assert taken(state).heartbeat.sequence == 2


def test_silence_is_three_intervals_without_an_answer() -> None:
    state = opened()
    assert not state.silent(29.9)
    assert state.silent(30.0)
    state.receive(gateway.ConnectResponse(heartbeat_reply=gateway.HeartbeatReply(sequence=1)), 20.0)
    assert not state.silent(30.0)
    state.receive(commands(assignment("a")), 40.0)
    assert state.silent(50.0), "only the answer to a heartbeat counts"
