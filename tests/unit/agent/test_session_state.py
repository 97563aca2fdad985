"""Opening a session, taking commands, heartbeats."""

from __future__ import annotations

from dataclasses import replace

import pytest
from google.protobuf.duration_pb2 import Duration

from distributor.agent.actions import (
    IdentityContested,
    OutputRoom,
    RefusedCommand,
    ServerDrains,
    SessionOpened,
    StartCommand,
    StopCause,
    StopCommand,
)
from distributor.agent.output_window import OutputWindow
from distributor.agent.record import CommandRecord
from distributor.agent.session_state import SessionState
from distributor.agent.vitals import Silence, Vitals
from distributor.model.agent_session import AgentSession
from distributor.model.command import Reason
from distributor.model.control import CONTROL_ROOM
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.wire.limits import MAX_HELD
from tests.support.scripted_gateway import welcome
from tests.support.session_script import OUT, PROFILE, acknowledged, commands, finish, opened, refusal, taken, work

# Opening


def test_hello_says_who_the_agent_is_and_what_it_holds() -> None:
    record = CommandRecord()
    record.start("running", "lease-r").window.append(OUT, b"abc")
    record.start("done", "lease-d").window.append(OUT, b"xy")
    record.finish(gateway.Result(command_id="done"))
    record.start("disowned", "lease-x").disowned = True
    hello = SessionState(PROFILE, record).hello(0.0).hello
    assert (hello.agent_id, hello.instance_id, hello.capacity) == ("agent123", "instance", 2)
    assert (list(hello.types), dict(hello.labels)) == (["PRINT", "SLOW", "PING", "STOP"], {"zone": "a"})
    assert hello.agent_version == "test"
    assert [(c.command_id, c.lease_id, c.output_offset) for c in hello.running] == [("running", "lease-r", 3)]
    assert [(c.command_id, c.lease_id, c.output_offset) for c in hello.unacknowledged] == [("done", "lease-d", 2)]


def test_labels_that_the_server_overrules_are_those_of_the_hello() -> None:
    state = SessionState(PROFILE, CommandRecord())
    state.hello(0.0)
    message = welcome()
    message.welcome.overruled_labels[:] = ["rack", "zone"]
    (action, *_) = state.receive(message, 0.0)
    assert action == SessionOpened(1, "", ("zone",))


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


@pytest.mark.parametrize(
    ("sent", "used"),
    [
        (Duration(seconds=2**62), 2_592_000.0),
        (Duration(seconds=-(2**62)), 0.0),
        (Duration(seconds=1, nanos=500_000_000), 1.5),
    ],
)
def test_durations_of_a_server_are_bounded(sent: Duration, used: float) -> None:
    state = opened()
    assert ServerDrains(used) in state.receive(gateway.ConnectResponse(drain=gateway.Drain(reconnect_after=sent)), 0.0)
    wild = welcome()
    wild.welcome.start_within.CopyFrom(sent)
    wild.welcome.heartbeat_interval.CopyFrom(sent)
    fresh = SessionState(PROFILE, CommandRecord())
    fresh.hello(0.0)
    fresh.receive(wild, 0.0)


def test_a_second_welcome_is_ignored() -> None:
    state = opened()
    assert state.receive(welcome(heartbeat_interval=1), 0.0) == []
    assert state.heartbeat_interval == 10.0


# Commands


def test_a_command_is_received_and_started_in_one_message_with_its_result() -> None:
    record = CommandRecord()
    state = opened(record)
    given = work("a")
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
        (2, 24.9, True),  # the second heartbeat was sent at 10
        (2, 25.0, False),
        (3, 11.0, False),  # never sent
    ],
)
def test_a_command_starts_only_while_its_heartbeat_is_fresh(after_heartbeat: int, now: float, starts: bool) -> None:
    state = opened()
    state.heartbeat(10.0)
    state.take()
    message = commands(work("a"), after_heartbeat=after_heartbeat)
    if starts:
        assert len(state.receive(message, now)) == 1
    else:
        assert refusal(state, message, now).code == gateway.REFUSAL_CODE_STALE


def test_old_heartbeats_are_forgotten() -> None:
    state = opened()
    for beat in range(1, 1_000):
        state.heartbeat(beat * 10.0)
        state.take()
    assert len(state._heartbeats._sent_at) <= 2


@pytest.mark.parametrize(
    ("command_type", "code"),
    [("DANCE", "unsupported_type"), ("EXEC", "exec_not_allowed")],
)
def test_what_the_agent_cannot_or_may_not_do_is_refused(command_type: str, code: str) -> None:
    refused = refusal(opened(), commands(work("a", command_type)))
    assert (refused.code, refused.reason.code) == (gateway.REFUSAL_CODE_UNSUPPORTED, code)
    assert (refused.command_id, refused.lease_id) == ("a", "lease-a-1")


def test_a_command_over_the_capacity_is_refused_as_busy() -> None:
    state = opened()
    state.receive(commands(work("a"), work("b")), 0.0)
    state.take()
    refused = refusal(state, commands(work("c")))
    assert (refused.code, refused.reason.message) == (
        gateway.REFUSAL_CODE_BUSY,
        "2 of the agent's 2 slots are taken, the command needs 1",
    )


def test_a_heavy_command_uses_its_slots_until_it_ends() -> None:
    record = CommandRecord()
    state = opened(record)
    heavy = work("a")
    heavy.command.slots = 2
    state.receive(commands(heavy), 0.0)
    assert (state.credit, record.running) == (0, 2)
    state.heartbeat(0.5)
    message = taken(state)
    # Its Received comes later in the same message.
    assert (message.heartbeat.credit, message.heartbeat.running) == (2, 0)
    state.heartbeat(0.6)
    beat = taken(state).heartbeat
    assert (beat.credit, beat.running) == (0, 2)
    record.finish(gateway.Result(command_id="a", lease_id="lease-a-1"))
    assert (state.credit, record.running) == (2, 0)


def test_a_command_heavier_than_the_room_is_refused_as_busy() -> None:
    state = opened()
    state.receive(commands(work("a")), 0.0)
    state.take()
    heavy = work("b")
    heavy.command.slots = 2
    refused = refusal(state, commands(heavy))
    assert (refused.code, refused.reason.message) == (
        gateway.REFUSAL_CODE_BUSY,
        "1 of the agent's 2 slots are taken, the command needs 2",
    )


def test_a_command_refused_as_stale_or_busy_may_be_started_later() -> None:
    record = CommandRecord()
    state = opened(record)
    assert refusal(state, commands(work("a")), now=15.0).code == gateway.REFUSAL_CODE_STALE
    state.heartbeat(16.0)
    assert len(state.receive(commands(work("a", attempt=2), after_heartbeat=1), 16.0)) == 1


@pytest.mark.parametrize("stage", ["running", "unacknowledged", "acknowledged", "rejected transient"])
def test_a_command_given_out_again_is_not_started_again_but_answered_under_the_new_lease(stage: str) -> None:
    record = CommandRecord()
    state = opened(record)
    state.receive(commands(work("a")), 0.0)
    if stage != "running":
        finish(state, record, "a", transient="transient" in stage)
        state.take()
    if stage == "acknowledged":
        state.receive(acknowledged("a"), 0.0)
    if stage == "rejected transient":
        state.receive(acknowledged("a", verdict=gateway.RESULT_VERDICT_REJECTED), 0.0)
    state.take()
    assert state.receive(commands(work("a", attempt=2)), 0.0) == []
    message = taken(state)
    assert [(r.command_id, r.lease_id) for r in message.received] == [("a", "lease-a-2")]
    assert [(r.command_id, r.lease_id) for r in message.started] == [("a", "lease-a-2")]
    if stage == "running":
        finish(state, record, "a")
        message = taken(state)
    assert [(r.command_id, r.lease_id) for r in message.results] == [("a", "lease-a-2")]


def test_one_that_is_given_out_again_goes_on_with_its_output() -> None:
    record = CommandRecord()
    state = opened(record)
    state.receive(commands(work("a")), 0.0)
    window = record.held[0].window
    window.append(OUT, b"12345")
    state.output_written("a")
    taken(state)
    state.receive(gateway.ConnectResponse(output_acks=[gateway.OutputAck(command_id="a", offset=3)]), 0.0)
    state.receive(commands(work("a", attempt=2)), 0.0)
    (output,) = taken(state).output
    assert (output.lease_id, output.offset, output.data) == ("lease-a-2", 0, b"45")
    state.receive(gateway.ConnectResponse(output_acks=[gateway.OutputAck(command_id="a", offset=2)]), 0.0)
    assert (window.acknowledged, record.held[0].output_bytes) == (5, 2)


def printing(record: CommandRecord, state: SessionState, data: bytes = b"12345") -> OutputWindow:
    """The window of a command, "a", whose output so far was sent."""
    state.receive(commands(work("a")), 0.0)
    window = record.held[0].window
    window.append(OUT, data)
    state.output_written("a")
    taken(state)
    return window


def output_ack(offset: int, lease_id: str, code: str = "") -> gateway.ConnectResponse:
    ack = gateway.OutputAck(command_id="a", offset=offset, lease_id=lease_id)
    if code:
        ack.reason.code = code
    return gateway.ConnectResponse(output_acks=[ack])


def test_an_acknowledgement_under_an_earlier_lease_says_nothing_about_later_output() -> None:
    record = CommandRecord()
    state = opened(record)
    window = printing(record, state)
    state.receive(output_ack(2, "lease-a-1"), 0.0)
    state.receive(commands(work("a", attempt=2)), 0.0)
    assert state.receive(output_ack(3, "lease-a-1"), 0.0) == []
    assert window.acknowledged == 2
    assert state.receive(output_ack(3, "lease-a-2"), 0.0) == [OutputRoom("a")]
    assert window.acknowledged == 5


def test_output_refused_under_a_stale_lease_is_sent_under_the_next() -> None:
    record = CommandRecord()
    state = opened(record)
    printing(record, state)
    assert state.receive(output_ack(0, "lease-a-1", "stale_lease"), 0.0) == []
    record.held[0].window.append(OUT, b"67")
    state.output_written("a")
    assert state.take() is None
    state.receive(commands(work("a", attempt=2)), 0.0)
    assert [(output.lease_id, output.offset, output.data) for output in taken(state).output] == [
        ("lease-a-2", 0, b"12345"),
        ("lease-a-2", 5, b"67"),
    ]


def test_a_result_does_not_wait_for_refused_output() -> None:
    record = CommandRecord()
    state = opened(record)
    printing(record, state)
    state.receive(output_ack(0, "lease-a-1", "stale_lease"), 0.0)
    record.held[0].window.append(OUT, b"67")
    state.output_written("a")
    finish(state, record, "a")
    message = taken(state)
    assert (len(message.results), len(message.output)) == (1, 0)


@pytest.mark.parametrize("code", ["command_ended", "unknown_command", "foreign_command", "of_the_future"])
def test_a_command_whose_output_nobody_wants_is_stopped(code: str) -> None:
    record = CommandRecord()
    state = opened(record)
    window = printing(record, state)
    assert state.receive(output_ack(0, "lease-a-1", code), 0.0) == [
        StopCommand("a", StopCause.CANCELLED),
        OutputRoom("a"),
    ]
    window.append(OUT, b"67")
    state.output_written("a")
    assert state.take() is None
    assert (window.written, window.acknowledged) == (7, 7)


def test_no_more_output_is_sent_than_the_server_permits_unacknowledged() -> None:
    record = CommandRecord()
    record.start("a", "lease-a-1").window.append(OUT, b"123456789")
    state = SessionState(PROFILE, record)
    state.hello(0.0)
    state.receive(welcome(max_output=4), 0.0)
    finish(state, record, "a")
    for offset, data, safe in [(0, b"1234", 3), (4, b"567", 7), (7, b"89", 9)]:
        message = taken(state)
        assert [(output.offset, output.data) for output in message.output] == [(offset, data)]
        assert bool(message.results) == (safe == 9)
        assert state.take() is None
        state.receive(output_ack(safe, "lease-a-1"), 0.0)


def test_a_result_sent_again_under_a_new_lease_waits_for_the_answer_to_that() -> None:
    record = CommandRecord()
    state = opened(record)
    state.receive(commands(work("a")), 0.0)
    finish(state, record, "a")
    taken(state)
    state.receive(commands(work("a", attempt=2)), 0.0)
    assert [result.lease_id for result in taken(state).results] == ["lease-a-2"]
    for lease_id, unacknowledged in [("lease-a-1", 1), ("lease-a-2", 0)]:
        ack = gateway.ResultAck(command_id="a", lease_id=lease_id, verdict=gateway.RESULT_VERDICT_LATE)
        state.receive(gateway.ConnectResponse(result_acks=[ack]), 0.0)
        assert (record.unacknowledged, len(state.unanswered_results)) == (unacknowledged, unacknowledged)


def test_a_duplicate_whose_outcome_is_not_remembered_is_refused() -> None:
    record = CommandRecord()
    state = opened(record)
    state.receive(commands(work("a")), 0.0)
    record.held[0].disowned = True
    finish(state, record, "a")
    state.take()
    refused = refusal(state, commands(work("a", attempt=2)))
    assert (refused.code, refused.lease_id) == (gateway.REFUSAL_CODE_DUPLICATE, "lease-a-2")


# Handlers are called once the Received is on the wire


def test_a_handler_is_called_once_its_received_was_sent() -> None:
    state = opened()
    given = work("a", "SLOW")
    assert state.receive(commands(given), 0.0) == []
    message = taken(state)
    assert ([r.command_id for r in message.received], list(message.started)) == (["a"], [])
    assert state.sent(message, 1.0) == [StartCommand(given)]
    assert [s.command_id for s in taken(state).started] == ["a"]
    assert state.sent(message, 1.0) == []


def test_one_that_went_stale_before_its_received_was_sent_is_refused_and_may_come_again() -> None:
    record = CommandRecord()
    state = opened(record)
    state.receive(commands(work("a", "SLOW")), 0.0)
    message = taken(state)
    assert state.sent(message, 15.0) == [RefusedCommand("a", 1, "stale")]
    assert taken(state).refused[0].code == gateway.REFUSAL_CODE_STALE
    assert record.empty
    assert not record.was_started("a")


@pytest.mark.parametrize(
    ("verdict", "actions"),
    [(gateway.VERDICT_KEEP, [StartCommand(work("a", "SLOW"))]), (gateway.VERDICT_STOP, [])],
)
def test_one_whose_received_was_cut_off_waits_for_the_word_of_the_server(
    verdict: gateway.Verdict.ValueType, actions: list[StartCommand]
) -> None:
    record = CommandRecord()
    opened(record).receive(commands(work("a", "SLOW")), 0.0)
    state = SessionState(PROFILE, record)
    hello = state.hello(100.0).hello
    assert [one.command_id for one in hello.running] == ["a"]
    told = welcome(verdicts=(gateway.HeldCommandVerdict(command_id="a", verdict=verdict),))
    assert state.receive(told, 100.0)[1:] == actions
    assert record.empty == (not actions)


def test_one_that_is_cancelled_before_its_handler_was_called_is_not_there() -> None:
    record = CommandRecord()
    state = opened(record)
    state.receive(commands(work("a", "SLOW")), 0.0)
    cancel = gateway.Cancel(command_id="a", lease_id="lease-a-1")
    assert state.receive(gateway.ConnectResponse(cancels=[cancel]), 0.0) == []
    message = taken(state)
    assert message.cancel_reports[0].finding == gateway.CANCEL_FINDING_UNKNOWN
    assert state.sent(message, 0.0) == []
    assert record.empty


@pytest.mark.parametrize("type_", ["PRINT", "SLOW"], ids=["running", "not started"])
def test_a_cancel_of_another_attempt_stops_nothing(type_: str) -> None:
    record = CommandRecord()
    state = opened(record)
    state.receive(commands(work("a", type_)), 0.0)
    cancel = gateway.Cancel(command_id="a", lease_id="another")
    assert state.receive(gateway.ConnectResponse(cancels=[cancel]), 0.0) == []
    (report,) = taken(state).cancel_reports
    assert (report.finding, report.lease_id) == (gateway.CANCEL_FINDING_UNKNOWN, "another")
    assert [held.command_id for held in record.held] == ["a"]


# Control commands


def test_control_commands_are_taken_by_a_full_agent_and_while_it_leaves() -> None:
    record = CommandRecord()
    state = opened(record)
    state.receive(commands(work("a"), work("b")), 0.0)
    assert len(state.receive(commands(work("p", "PING")), 0.0)) == 1
    state.take()
    state.heartbeat(1.0)
    assert (taken(state).heartbeat.credit, record.running, record.control) == (0, 2, 1)
    state.leave("done", 2.0)
    assert len(state.receive(commands(work("s", "STOP")), 2.0)) == 1
    for number in range(CONTROL_ROOM - 2):
        state.receive(commands(work(f"p{number}", "PING")), 2.0)
    state.take()
    assert refusal(state, commands(work("more", "PING")), 2.0).code == gateway.REFUSAL_CODE_BUSY


# Handlers that do not stop


def test_a_handler_that_does_not_stop_takes_up_room_until_it_ends() -> None:
    """As the server counts it: the heartbeat comes before the result in its message."""
    record = CommandRecord()
    state = opened(record)
    server = AgentSession("agent123", 1, capacity=2, now=0.0)
    server.heartbeat(1, 2, 0, 0.0)
    for command_id in ("a", "b"):
        server.claimed(command_id, f"lease-{command_id}-1", 1, 0.0)
        server.received(command_id, f"lease-{command_id}-1", 0.0)
    state.receive(commands(work("a"), work("b")), 0.0)
    state.take()

    def told() -> int:
        message = taken(state)
        beat = message.heartbeat
        server.heartbeat(beat.sequence, beat.credit, beat.running, 0.0)
        for result in message.results:
            server.ended(result.command_id, f"lease-{result.command_id}-1")
        return server.credit

    record.stuck += 1
    finish(state, record, "a")
    assert (state.credit, told()) == (0, 0)
    finish(state, record, "b")
    assert (state.credit, told()) == (1, 1)
    record.stuck -= 1
    state.room_changed(0.0)
    assert (state.credit, told()) == (2, 2)


def test_after_a_stored_transient_failure_the_next_attempt_starts() -> None:
    record = CommandRecord()
    state = opened(record)
    state.receive(commands(work("a")), 0.0)
    finish(state, record, "a", transient=True)
    message = acknowledged("a")
    message.MergeFrom(commands(work("a", attempt=2)))
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
    state.receive(commands(work("a")), 0.0)
    taken(state)
    state.heartbeat(1.0, Vitals(load=0.5))
    beat = taken(state).heartbeat
    assert (beat.sequence, beat.credit, beat.running, beat.load) == (2, 1, 1, 0.5)


def test_a_heartbeat_reports_lag_silences_and_problems() -> None:
    state = opened()
    state.heartbeat(1.0, Vitals(0.5, 0.25, [Silence("a", 2.5)], [Reason("journal_full", "no room")] * 9))
    beat = taken(state).heartbeat
    assert beat.handler_lag.ToMilliseconds() == 250
    assert [(one.command_id, one.silence.ToMilliseconds()) for one in beat.progress] == [("a", 2_500)]
    assert [(one.code, one.message) for one in beat.problems] == [("journal_full", "no room")] * 8
    assert not beat.draining


def test_a_heartbeat_out_of_turn_repeats_all_vitals_but_the_silences() -> None:
    state = opened()
    state.heartbeat(1.0, Vitals(0.5, 0.25, [Silence("a", 2.5)], [Reason("journal_full")]))
    taken(state)
    state.stop_accepting(5.0)
    beat = taken(state).heartbeat
    assert (beat.load, beat.handler_lag.ToMilliseconds(), len(beat.problems)) == (0.5, 250, 1)
    assert not beat.progress
    assert beat.draining


def test_an_answer_dates_from_when_its_heartbeat_was_sent() -> None:
    state = SessionState(PROFILE, CommandRecord())
    state.hello(3.0)
    assert state.answered_at == 0.0
    state.receive(welcome(), 4.0)
    assert state.answered_at == 3.0
    state.heartbeat(10.0)
    state.receive(gateway.ConnectResponse(heartbeat_reply=gateway.HeartbeatReply(sequence=1)), 11.0)
    assert state.answered_at == 10.0


def test_hello_says_when_the_agent_stops_as_an_orphan() -> None:
    state = SessionState(replace(PROFILE, orphan_after=60.0), CommandRecord())
    assert state.hello(0.0).hello.orphan_after.ToSeconds() == 60
    assert not SessionState(PROFILE, CommandRecord()).hello(0.0).hello.HasField("orphan_after")


def test_a_heartbeat_leaves_out_what_was_not_said_to_be_received_before_it() -> None:
    """In the order of the parts it comes before the Received of its own message."""
    record = CommandRecord()
    state = opened(record)
    state.receive(commands(work("a"), work("b")), 0.0)
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
    state.receive(commands(work("a")), 0.0)
    state.stop_accepting(1.0)
    assert taken(state).heartbeat.credit == 0


def test_the_sequence_has_no_gaps_when_a_heartbeat_waits_to_be_sent() -> None:
    state = opened()
    state.heartbeat(10.0)
    state.heartbeat(20.0)
    assert taken(state).heartbeat.sequence == 2
    state.heartbeat(30.0)
    assert taken(state).heartbeat.sequence == 3


def test_silence_is_three_intervals_without_an_answer() -> None:
    state = opened()
    assert not state.silent(29.9)
    assert state.silent(30.0)
    state.receive(gateway.ConnectResponse(heartbeat_reply=gateway.HeartbeatReply(sequence=1)), 20.0)
    assert not state.silent(30.0)
    state.receive(commands(work("a")), 40.0)
    assert state.silent(50.0), "only the answer to a heartbeat counts"


# Moving to another server


def test_an_agent_that_moves_says_goodbye_with_work_running_and_starts_nothing_more() -> None:
    record = CommandRecord()
    state = opened(record)
    state.receive(commands(work("a"), work("b", "SLOW")), 0.0)
    state.move()
    message = taken(state)
    assert ([one.command_id for one in message.received], message.goodbye.reason) == (
        ["a", "b"],
        "moved to another server",
    )
    # Received goes before the Goodbye, so the command is the agent's.
    assert state.sent(message, 1.0) == [StartCommand(work("b", "SLOW"))]
    for late in (work("c"), work("d", "PING"), work("a", attempt=2)):
        assert state.receive(commands(late), 1.0) == []
    assert state.take() is None
    again = SessionState(PROFILE, record).hello(2.0).hello
    assert [(held.command_id, held.lease_id) for held in again.running] == [("a", "lease-a-1"), ("b", "lease-b-1")]


def test_a_probe_is_answered_with_a_heartbeat_at_once() -> None:
    state = opened()
    probe = gateway.ConnectResponse(probe=gateway.Probe(peer="ipv4:192.0.2.1:5"))
    assert state.receive(probe, 3.0) == [IdentityContested("ipv4:192.0.2.1:5")]
    assert taken(state).heartbeat.sequence == 2
