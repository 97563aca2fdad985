"""Cancels, what survives a stream, and leaving."""

from __future__ import annotations

import pytest

from distributor.agent.actions import (
    OutputRoom,
    RefusedCommand,
    ServerDrains,
    ServerStops,
    SessionOpened,
    StartCommand,
    StopCause,
    StopCommand,
)
from distributor.agent.record import CommandRecord
from distributor.agent.session_state import Phase, SessionState
from distributor.model.agent_session import AgentSession
from distributor.v1 import agent_gateway_pb2 as gateway
from tests.support.scripted_gateway import welcome
from tests.support.session_script import OUT, PROFILE, acknowledged, commands, finish, opened, refusal, taken, work

# Cancel and reconcile


def test_a_cancel_stops_what_runs_and_says_so() -> None:
    state = opened()
    state.receive(commands(work("a")), 0.0)
    cancels = [gateway.Cancel(command_id="a", lease_id="lease-a-1"), gateway.Cancel(command_id="b", lease_id="l2")]
    cancel = gateway.ConnectResponse(cancels=cancels)
    assert state.receive(cancel, 0.0) == [StopCommand("a", StopCause.CANCELLED)]
    assert [(r.command_id, r.lease_id, r.finding) for r in taken(state).cancel_reports] == [
        ("a", "lease-a-1", gateway.CANCEL_FINDING_STOPPING),
        ("b", "l2", gateway.CANCEL_FINDING_UNKNOWN),
    ]


def test_a_command_that_did_not_stop_is_reported_with_its_survivors() -> None:
    state = opened()
    state.receive(commands(work("a")), 0.0)
    taken(state)
    state.could_not_stop("a", [gateway.SurvivingProcess(pid=7, name="sleep 60")])
    (report,) = taken(state).cancel_reports
    assert (report.command_id, report.lease_id) == ("a", "lease-a-1")
    assert report.finding == gateway.CANCEL_FINDING_COULD_NOT_STOP
    assert [(one.pid, one.name) for one in report.survivors] == [(7, "sleep 60")]


def findings(message: gateway.ConnectRequest) -> list[tuple[str, gateway.CancelFinding.ValueType]]:
    return [(report.lease_id, report.finding) for report in message.cancel_reports]


def test_a_disowned_command_that_is_cancelled_is_unknown_only_once_it_has_ended() -> None:
    """ "Unknown" means that nothing of it runs, so that the server may publish it as cancelled."""
    record = CommandRecord()
    state = opened(record)
    state.receive(commands(work("a"), work("b")), 0.0)
    taken(state)
    for held in record.held:
        held.disowned = True
    for report in ("a", "b"):
        state.could_not_stop(report, ())
    assert state.take() is None, "nobody has asked"
    cancel = gateway.ConnectResponse(cancels=[gateway.Cancel(command_id="a", lease_id="next-lease")])
    assert state.receive(cancel, 0.0) == [StopCommand("a", StopCause.CANCELLED)]
    assert findings(taken(state)) == [("next-lease", gateway.CANCEL_FINDING_STOPPING)]
    state.could_not_stop("a", ())
    assert findings(taken(state)) == [("next-lease", gateway.CANCEL_FINDING_COULD_NOT_STOP)]
    finish(state, record, "a")
    message = taken(state)
    assert findings(message) == [("next-lease", gateway.CANCEL_FINDING_UNKNOWN)]
    assert not message.results
    finish(state, record, "b")
    assert findings(taken(state)) == []


def test_an_extension_is_sent_before_the_result_and_again_on_a_new_stream() -> None:
    record = CommandRecord()
    state = opened(record)
    state.receive(commands(work("a")), 0.0)
    held = record.get("a")
    assert held
    held.extended_limit = 90.0
    state.extended("a")
    message = taken(state)
    assert [(one.command_id, one.lease_id, one.time_limit.ToSeconds()) for one in message.extensions] == [
        ("a", "lease-a-1", 90)
    ]
    assert state.take() is None

    second = SessionState(PROFILE, record)
    second.hello(1.0)
    second.receive(welcome(verdicts=(gateway.HeldCommandVerdict(command_id="a", verdict=gateway.VERDICT_KEEP),)), 1.0)
    finish(second, record, "a")
    message = taken(second)
    assert [one.time_limit.ToSeconds() for one in message.extensions] == [90]
    assert [one.command_id for one in message.results] == ["a"]


def test_a_cancel_of_a_command_whose_result_is_under_way_promises_that_result() -> None:
    record = CommandRecord()
    state = opened(record)
    state.receive(commands(work("a")), 0.0)
    finish(state, record, "a")
    assert state.receive(gateway.ConnectResponse(cancels=[gateway.Cancel(command_id="a")]), 0.0) == []
    assert taken(state).cancel_reports[0].finding == gateway.CANCEL_FINDING_STOPPING


def test_a_new_stream_sends_results_and_output_again_until_acknowledged() -> None:
    record = CommandRecord()
    first = opened(record)
    first.receive(commands(work("a")), 0.0)
    held = record.get("a")
    assert held
    held.window.append(OUT, b"abcdef")
    first.output_written("a")
    finish(first, record, "a")
    taken(first)

    second = SessionState(PROFILE, record)
    second.hello(1.0)
    verdict = gateway.HeldCommandVerdict(command_id="a", verdict=gateway.VERDICT_KEEP, output_offset=4)
    second.receive(welcome(verdicts=(verdict,)), 1.0)
    message = taken(second)
    assert [(part.offset, part.data) for part in message.output] == [(4, b"ef")]
    assert [result.command_id for result in message.results] == ["a"]
    assert second.take() is None

    second.receive(acknowledged("a"), 1.0)
    assert record.empty
    assert opened(record).take() is None


@pytest.mark.parametrize(
    "verdicts", [(), (gateway.HeldCommandVerdict(command_id="a", verdict=gateway.Verdict.ValueType(99)),)]
)
def test_what_the_welcome_does_not_mention_or_in_words_of_tomorrow_is_kept(
    verdicts: tuple[gateway.HeldCommandVerdict, ...],
) -> None:
    record = CommandRecord()
    record.start("a", "lease").window.append(OUT, b"abc")
    state = SessionState(PROFILE, record)
    state.hello(0.0)
    state.receive(welcome(verdicts=verdicts), 0.0)
    assert [part.data for part in taken(state).output] == [b"abc"]


def test_what_is_no_longer_ours_is_stopped_and_forgotten() -> None:
    record = CommandRecord()
    record.start("running", "lease")
    record.start("done", "lease")
    record.finish(gateway.Result(command_id="done"))
    state = SessionState(PROFILE, record)
    state.hello(0.0)
    stop = [
        gateway.HeldCommandVerdict(command_id=command_id, verdict=gateway.VERDICT_STOP)
        for command_id in ("running", "done")
    ]
    actions = state.receive(welcome(verdicts=tuple(stop)), 0.0)
    assert actions == [SessionOpened(1, ""), StopCommand("running", StopCause.DISOWNED)]
    finish(state, record, "running")
    # No result tells that there is room again, so a heartbeat does.
    message = taken(state)
    assert (message.heartbeat.sequence, message.heartbeat.credit, message.heartbeat.running) == (1, 2, 0)
    assert not message.results
    assert state.take() is None
    assert record.empty


@pytest.mark.parametrize("transient", [True, False])
def test_a_result_that_is_stored_is_forgotten_and_its_command_runs_again_if_it_was_transient(transient: bool) -> None:
    record = CommandRecord()
    record.start("a", "lease")
    record.finish(gateway.Result(command_id="a", transient=transient))
    state = SessionState(PROFILE, record)
    state.hello(0.0)
    stored = gateway.HeldCommandVerdict(command_id="a", verdict=gateway.VERDICT_STORED)
    assert state.receive(welcome(verdicts=(stored,)), 0.0) == [SessionOpened(1, "")]
    assert record.empty
    assert not taken(state).results
    assert bool(state.receive(commands(work("a")), 0.0)) == transient
    assert bool(taken(state).results) != transient


def test_acknowledged_output_makes_room() -> None:
    record = CommandRecord()
    state = opened(record)
    record.start("a", "lease").window.append(OUT, b"abc")
    ack = gateway.ConnectResponse(
        output_acks=[gateway.OutputAck(command_id="a", offset=3), gateway.OutputAck(command_id="b", offset=3)]
    )
    assert state.receive(ack, 0.0) == [OutputRoom("a")]
    held = record.get("a")
    assert held
    assert held.window.acknowledged == 3


# Leaving


def test_goodbye_comes_once_everything_is_acknowledged() -> None:
    record = CommandRecord()
    state = opened(record)
    state.receive(commands(work("a")), 0.0)
    taken(state)
    state.leave("maintenance", 1.0)
    beat = taken(state).heartbeat
    assert (beat.credit, beat.running) == (0, 1)
    assert state.take() is None
    finish(state, record, "a")
    assert taken(state).results
    assert state.take() is None
    state.receive(acknowledged("a"), 2.0)
    assert taken(state).goodbye.reason == "maintenance"
    assert state.phase is Phase.GONE
    assert state.take() is None


def test_what_ends_while_a_full_agent_leaves_makes_no_room_for_more() -> None:
    """At first it looks like any full agent, whose results make room."""
    record, server = CommandRecord(), AgentSession("agent123", 1, capacity=2, now=0.0)
    state = opened(record)
    server.heartbeat(1, 2, 0, 0.0)
    for command_id in ("a", "b"):
        server.claimed(command_id, "lease", 1, 0.0)
        server.received(command_id, "lease", 0.0)
    state.receive(commands(work("a"), work("b")), 0.0)
    taken(state)
    state.leave("maintenance", 1.0)
    for command_id in ("", "a", "b"):
        if command_id:
            finish(state, record, command_id)
        message = taken(state)
        beat = message.heartbeat
        server.heartbeat(beat.sequence, beat.credit, beat.running, 1.0)
        for ended in message.results:
            server.ended(ended.command_id, "lease")
        assert server.credit == 0
    assert server.in_flight == {}


def test_no_command_is_started_while_leaving() -> None:
    record = CommandRecord()
    record.start("a", "lease")
    state = opened(record)
    state.leave("maintenance", 0.0)
    state.take()
    refused = refusal(state, commands(work("b")))
    assert (refused.code, refused.reason.code) == (gateway.REFUSAL_CODE_BUSY, "stopping")


def test_an_agent_that_leaves_while_disconnected_tells_the_next_server_at_once() -> None:
    record = CommandRecord()
    record.start("a", "lease")
    state = SessionState(PROFILE, record)
    state.leave("maintenance", 0.0)
    state.hello(0.0)
    state.receive(welcome(), 0.0)
    assert taken(state).heartbeat.credit == 0


def test_drain_and_stop_are_for_the_runtime() -> None:
    message = gateway.ConnectResponse(stop=gateway.Stop(reason="end of life"))
    message.drain.reconnect_after.FromNanoseconds(1_500_000_000)
    assert opened().receive(message, 0.0) == [ServerDrains(1.5), ServerStops("end of life")]


# Freshness after a late Welcome


@pytest.mark.parametrize(("welcomed", "starts"), [(14.9, True), (15.0, False)])
def test_a_command_that_waited_for_its_start_is_as_fresh_as_the_hello(welcomed: float, starts: bool) -> None:
    record = CommandRecord()
    opened(record).receive(commands(work("a", "SLOW")), 0.0)
    state = SessionState(PROFILE, record)
    state.hello(0.0)
    _, action = state.receive(welcome(), welcomed)
    assert isinstance(action, StartCommand if starts else RefusedCommand)
    message = taken(state)
    assert [refused.code for refused in message.refused] == ([] if starts else [gateway.REFUSAL_CODE_STALE])
    assert record.was_started("a") == starts


def test_a_heartbeat_follows_the_welcome_and_each_stale_refusal() -> None:
    """Only its answer makes the next commands fresh."""
    state = SessionState(PROFILE, CommandRecord())
    state.hello(0.0)
    state.receive(welcome(), 20.0)
    assert taken(state).heartbeat.sequence == 1
    state.receive(commands(work("a")), 20.0)
    message = taken(state)
    assert ([refused.code for refused in message.refused], message.heartbeat.sequence) == (
        [gateway.REFUSAL_CODE_STALE],
        2,
    )
    state.receive(commands(work("b"), after_heartbeat=1), 20.0)
    assert len(taken(state).started) == 1


def test_a_command_received_under_two_leases_is_in_transit_once() -> None:
    state = opened()
    state.receive(commands(work("a")), 0.0)
    state.receive(commands(work("a", attempt=2)), 0.0)
    state.heartbeat(1.0)
    beat = taken(state).heartbeat
    assert (beat.credit, beat.running) == (2, 0)
