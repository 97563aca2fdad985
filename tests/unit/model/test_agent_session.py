from __future__ import annotations

from collections.abc import Callable

import pytest

from distributor.model.agent_session import AgentSession
from distributor.model.control import CONTROL_ROOM
from distributor.model.in_flight import InFlight
from distributor.model.protocol_violation import ProtocolViolation
from tests.support.session_stages import NOTHING, Stages, stages


def session(capacity: int = 3) -> AgentSession:
    return AgentSession("agent123", 7, capacity, now=1_000.0)


def with_command(capacity: int = 3) -> AgentSession:
    opened = session(capacity)
    opened.claimed("c1", "lease1", 1, 1_000.0)
    return opened


@pytest.mark.parametrize("step", ["received", "started"])
def test_what_is_answered_before_its_write_is_known_to_be_done_was_sent(step: str) -> None:
    opened = with_command()
    assert getattr(opened, step)("c1", "lease1", 1_004.0)
    opened.sent([("c1", "lease1")], 1_009.0)
    assert stages(opened, "c1", "lease1")[:2] == (4, 4)


def test_a_new_session() -> None:
    opened = session()
    assert (opened.agent_id, opened.epoch, opened.credit) == ("agent123", 7, 3)
    assert (opened.answered_heartbeat, opened.in_flight) == (0, {})
    assert not opened.ending
    assert not opened.more_waiting


@pytest.mark.parametrize(
    ("capacity", "in_flight", "credit"), [(1, 0, 1), (1, 1, 0), (3, 1, 2), (3, 3, 0), (3, 5, 0), (1_000, 999, 1)]
)
def test_credit_is_what_is_left_of_the_capacity(capacity: int, in_flight: int, credit: int) -> None:
    opened = session(capacity)
    for number in range(in_flight):
        opened.claimed(str(number), "lease", 1, 0.0)
    assert opened.credit == credit


@pytest.mark.parametrize(
    ("said_credit", "said_running", "acknowledged", "on_the_way", "credit"),
    [
        (3, 0, 0, 0, 3),
        (2, 1, 1, 0, 2),
        (3, 0, 0, 2, 1),
        (2, 1, 1, 1, 1),
        (0, 3, 3, 0, 0),
        (3, 0, 3, 0, 0),
        (1, 0, 0, 0, 1),
        (1, 2, 0, 0, 1),
        (1, 2, 0, 1, 0),
        (1, 1, 1, 0, 1),
        (0, 3, 1, 0, 0),
        (0, 3, 0, 0, 0),
        (0, 1, 1, 0, 0),
        (0, 0, 0, 0, 0),
        (1_000, 0, 1, 0, 2),
    ],
    ids=[
        "idle",
        "one runs",
        "two are on their way",
        "one runs, one is on its way",
        "full",
        "the results of all three follow",
        "has less room than it ever said",
        "runs two that are none of ours",
        "runs two that are none of ours, one of ours is on its way",
        "runs one of ours, has room for one more than that",
        "full, but two of them are none of ours",
        "full of what is none of ours",
        "about to leave, one runs",
        "about to leave, nothing runs",
        "more than it ever said to have",
    ],
)
def test_what_a_heartbeat_says_bounds_the_credit(
    said_credit: int, said_running: int, acknowledged: int, on_the_way: int, credit: int
) -> None:
    opened = session(3)
    for number in range(acknowledged + on_the_way):
        opened.claimed(str(number), "lease", 1, 0.0)
    for number in range(acknowledged):
        assert opened.received(str(number), "lease", 1.0)
    opened.heartbeat(1, said_credit, said_running, 2_000.0)
    assert opened.credit == credit


def test_what_ends_between_heartbeats_makes_room() -> None:
    opened = session(3)
    for command_id in ("c1", "c2", "c3"):
        opened.claimed(command_id, "lease", 1, 0.0)
        opened.received(command_id, "lease", 1.0)
    opened.heartbeat(1, 0, 3, 2_000.0)
    opened.ended("c1", "lease")
    opened.ended("c2", "lease")
    assert opened.credit == 2


@pytest.mark.parametrize("how", ["it says so", "it says so after a heartbeat", "a heartbeat no longer counts it"])
def test_what_was_taken_away_and_still_stops_takes_up_room(how: str) -> None:
    opened = with_command(1)
    opened.received("c1", "lease1", 1_001.0)
    assert opened.lost("c1", 1) == "lease1"
    assert opened.credit == 0
    opened.ended("c1", "another lease")
    assert opened.credit == 0
    if how != "it says so":
        opened.heartbeat(1, 0, 1, 2_000.0)
        assert opened.credit == 0
    if how == "a heartbeat no longer counts it":
        opened.heartbeat(2, 1, 0, 3_000.0)
    else:
        opened.ended("c1", "lease1")
    assert opened.credit == 1


def test_what_still_stops_takes_up_its_room_although_a_result_is_on_its_way() -> None:
    opened = with_command(2)
    opened.claimed("c2", "lease2", 1, 1_000.0)
    for command_id, lease_id in (("c1", "lease1"), ("c2", "lease2")):
        opened.received(command_id, lease_id, 1_001.0)
    opened.lost("c1", 1)
    opened.heartbeat(1, 0, 2, 2_000.0)
    assert opened.credit == 0
    opened.ended("c2", "lease2")
    assert opened.credit == 1
    opened.ended("c1", "lease1")
    assert opened.credit == 2


def test_room_that_a_heartbeat_reports_is_used_again() -> None:
    opened = session(2)
    opened.heartbeat(1, 0, 0, 2_000.0)
    assert opened.credit == 0
    opened.heartbeat(2, 2, 0, 3_000.0)
    assert opened.credit == 2


@pytest.mark.parametrize("sequence", [-1, 0, 2, 100])
def test_heartbeats_count_up_one_by_one(sequence: int) -> None:
    opened = session()
    with pytest.raises(ProtocolViolation, match="must be 1, one more than the last") as caught:
        opened.heartbeat(sequence, 1, 0, 2_000.0)
    assert caught.value.field == "heartbeat.sequence"
    assert (opened.answered_heartbeat, opened.last_received_at) == (0, 1_000.0)
    opened.heartbeat(1, 1, 0, 2_000.0)
    opened.heartbeat(2, 1, 0, 2_000.0)


@pytest.mark.parametrize(("credit", "running"), [(-1, 0), (0, -1)])
def test_negative_numbers_in_a_heartbeat(credit: int, running: int) -> None:
    opened = session()
    with pytest.raises(ProtocolViolation, match="must not be negative"):
        opened.heartbeat(1, credit, running, 2_000.0)
    assert opened.answered_heartbeat == 0


@pytest.mark.parametrize(
    "hear", [lambda opened: opened.note_message(1_500.0), lambda opened: opened.heartbeat(1, 1, 0, 1_500.0)]
)
def test_silence_counts_from_the_last_message(hear: Callable[[AgentSession], None]) -> None:
    opened = session()
    assert opened.silence_ms(1_200.0) == 200.0
    hear(opened)
    assert opened.silence_ms(1_700.0) == 200.0


def test_a_draining_session_is_given_nothing() -> None:
    opened = session()
    opened.ending = True
    assert opened.credit == 0
    opened.heartbeat(1, 3, 0, 2_000.0)
    assert opened.credit == 0


def test_room_of_a_claim_is_reserved_until_it_ends() -> None:
    opened = session()
    credit, control = opened.credit, opened.control_credit
    opened.reserve(2, 1)
    assert (opened.credit, opened.control_credit) == (credit - 2, control - 1)
    opened.claimed("c1", "lease1", 1, 1_000.0)
    opened.end_claim(2, 1)
    assert (opened.credit, opened.control_credit) == (credit - 1, control)


def test_stages_are_milliseconds_from_the_claim_and_written_once() -> None:
    opened = with_command()
    for offset in (0.0, 500.0):
        opened.sent([("c1", "lease1")], 1_001.9 + offset)
    assert opened.received("c1", "lease1", 1_005.0)
    assert not opened.received("c1", "lease1", 1_500.0)
    assert opened.started("c1", "lease1", 1_007.0)
    assert not opened.started("c1", "lease1", 1_500.0)
    assert stages(opened, "c1", "lease1") == Stages(1, 5, 7)


def test_what_has_started_has_been_received() -> None:
    opened = with_command()
    assert opened.started("c1", "lease1", 1_009.0)
    assert stages(opened, "c1", "lease1") == Stages(9, 9, 9)
    assert not opened.received("c1", "lease1", 1_010.0)


@pytest.mark.parametrize(("command_id", "lease_id"), [("c1", "lease0"), ("c2", "lease1"), ("c1", "")])
def test_what_is_not_in_flight_makes_no_progress(command_id: str, lease_id: str) -> None:
    opened = with_command()
    assert not opened.received(command_id, lease_id, 1_001.0)
    assert not opened.started(command_id, lease_id, 1_001.0)
    assert stages(opened, command_id, lease_id) == NOTHING
    assert not opened.holds(command_id, lease_id)
    opened.sent([(command_id, lease_id)], 1_001.0)
    assert stages(opened, "c1", "lease1") == NOTHING


def test_what_has_ended_leaves_room() -> None:
    opened = with_command(capacity=1)
    assert opened.credit == 0
    opened.ended("c1", "another lease")
    assert opened.credit == 0
    opened.ended("c1", "lease1")
    opened.ended("c1", "lease1")
    assert opened.credit == 1
    assert stages(opened, "c1", "lease1") == NOTHING


def test_only_the_attempt_in_flight_is_lost() -> None:
    opened = session(1)
    opened.claimed("c1", "lease2", 2, 1_000.0)
    assert opened.lost("c1", 1) is None
    assert opened.lost("c2", 2) is None
    assert opened.credit == 0
    assert opened.lost("c1", 2) == "lease2"
    assert opened.lost("c1", 2) is None
    assert opened.credit == 1


def test_an_adopted_command_keeps_what_is_known_of_it() -> None:
    opened = session()
    item = InFlight("lease1", 1, 500.0)
    item.acknowledged = 20
    opened.adopted("c1", item)
    assert opened.credit == 2
    assert not opened.received("c1", "lease1", 1_000.0)
    assert opened.started("c1", "lease1", 1_000.0)
    assert stages(opened, "c1", "lease1") == Stages(None, 20, 500)


def test_control_commands_take_up_no_room_and_have_a_bound_of_their_own() -> None:
    opened = session(capacity=1)
    for number in range(CONTROL_ROOM):
        assert opened.control_credit == CONTROL_ROOM - number
        opened.claimed(str(number), "lease", 1, 0.0, control=True)
    assert (opened.credit, opened.control_credit) == (1, 0)
    opened.claimed("work", "lease", 1, 0.0)
    assert opened.credit == 0
    opened.received("0", "lease", 0.0)
    opened.received("work", "lease", 0.0)
    # It counts work only.
    opened.heartbeat(1, credit=0, running=1, now=0.0)
    opened.ended("work", "lease")
    assert opened.credit == 1
    opened.ended("0", "lease")
    assert opened.lost("1", 1) == "lease"
    assert (opened.credit, opened.control_credit) == (1, 2)
    opened.ending = True
    assert opened.control_credit == 0


def test_a_control_command_taken_away_leaves_nothing_to_wait_for() -> None:
    opened = session(capacity=1)
    opened.claimed("c1", "lease", 1, 0.0, control=True)
    opened.received("c1", "lease", 0.0)
    opened.lost("c1", 1)
    assert (opened.credit, opened.control_credit) == (1, CONTROL_ROOM)


def test_a_second_attempt_in_flight_is_counted_once() -> None:
    opened = session(capacity=1)
    for lease_id in ("one", "two"):
        opened.claimed("c1", lease_id, 1, 0.0, control=True)
    assert opened.control_credit == CONTROL_ROOM - 1


@pytest.mark.parametrize("lease_id", ["lease1", "another", ""])
def test_only_what_is_in_flight_and_not_started_can_be_refused(lease_id: str) -> None:
    opened = with_command()
    opened.received("c1", "lease1", 1_001.0)
    assert opened.refused("c1", lease_id) == (lease_id == "lease1")
    assert opened.credit == (3 if lease_id == "lease1" else 2)
    opened = with_command()
    opened.started("c1", "lease1", 1_001.0)
    assert not opened.refused("c1", lease_id)
    assert opened.holds("c1", "lease1")


def test_output_is_counted_for_what_is_in_flight() -> None:
    opened = with_command()
    assert not opened.output("c1", "another", 5, 1)
    assert not opened.output("c2", "lease1", 5, 1)
    assert opened.output("c1", "lease1", 0, opened.output_window)
    with pytest.raises(ProtocolViolation):
        opened.output("c1", "lease1", opened.output_window, 1)
    opened.output_acknowledged("c1", "another", opened.output_window)
    opened.output_acknowledged("c2", "lease1", opened.output_window)
    with pytest.raises(ProtocolViolation):
        opened.output("c1", "lease1", opened.output_window, 1)
    opened.output_acknowledged("c1", "lease1", 1)
    assert opened.output("c1", "lease1", opened.output_window, 1)


def test_another_attempt_starts_its_output_anew() -> None:
    opened = with_command()
    assert opened.output("c1", "lease1", 0, 9)
    opened.claimed("c1", "lease2", 2, 1_000.0)
    with pytest.raises(ProtocolViolation):
        opened.output("c1", "lease2", 9, 1)
    assert opened.output("c1", "lease2", 0, 1)


def test_a_cancel_is_of_the_attempt_in_flight() -> None:
    opened = with_command()
    assert opened.cancelling("c2", "enough") is None
    assert opened.cancel_reason("c1", "lease1") is None
    assert opened.cancelling("c1", "enough") == "lease1"
    assert opened.cancel_reason("c1", "lease1") == "enough"
    assert opened.cancel_reason("c1", "another") is None
    opened.claimed("c1", "lease2", 2, 1_000.0)
    assert opened.cancel_reason("c1", "lease2") is None


@pytest.mark.parametrize(
    ("happens", "left"),
    [
        (lambda one: one.received("c1", "lease3", 1_000.0), {}),
        (lambda one: one.started("c1", "lease3", 1_000.0), {}),
        (lambda one: one.received("c1", "lease1", 1_000.0), {"c1": ["lease1", "lease2"]}),
        (lambda one: one.refused("c1", "lease2"), {"c1": ["lease1"]}),
        (lambda one: one.ended("c1", "lease1"), {"c1": ["lease2"]}),
        (lambda one: one.ended("c1", "lease3"), {"c1": ["lease1", "lease2"]}),
        (lambda one: one.lost("c1", 3), {"c1": ["lease1", "lease2"]}),
    ],
    ids=["received again", "started again", "received late", "refused late", "ended late", "ended again", "lost again"],
)
def test_what_was_given_up_may_run_until_the_agent_says_otherwise(
    happens: Callable[[AgentSession], object], left: dict[str, list[str]]
) -> None:
    opened = session()
    for lease_id in ("lease1", "lease2"):
        opened.gave_up("c1", lease_id)
    opened.claimed("c1", "lease3", 3, 1_000.0)
    happens(opened)
    assert opened.given_up == left
    opened.refused("c1", "lease1")
    opened.ended("c1", "lease2")
    assert opened.given_up == {}


def test_that_a_given_up_attempt_was_started_is_known_until_it_is_settled() -> None:
    opened = session()
    assert not opened.started_given_up("c1", "lease1")
    for lease_id in ("lease1", "lease2"):
        opened.gave_up("c1", lease_id)
        assert opened.started_given_up("c1", lease_id)
    opened.ended("c1", "lease1")
    assert not opened.has_started_given_up("c1", "lease1")
    assert opened.has_started_given_up("c1", "lease2")
    opened.settle_given_up("c1")
    assert not opened.has_started_given_up("c1", "lease2")


def test_a_heavy_command_uses_its_slots_while_in_flight() -> None:
    opened = session(capacity=10)
    opened.claimed("heavy", "lease", 1, 0.0)
    opened.weigh("heavy", 6)
    opened.claimed("light", "lease", 1, 0.0)
    assert opened.credit == 3
    opened.received("heavy", "lease", 1.0)
    opened.heartbeat(1, 4, 6, 2.0)
    assert opened.credit == 3
    opened.ended("heavy", "lease")
    assert opened.credit == 9


def test_a_heavy_command_that_must_stop_keeps_its_slots() -> None:
    opened = session(capacity=10)
    opened.claimed("heavy", "lease", 1, 0.0)
    opened.weigh("heavy", 6)
    opened.received("heavy", "lease", 1.0)
    assert opened.lost("heavy", 1) == "lease"
    assert opened.credit == 4
    opened.heartbeat(1, 4, 6, 2.0)
    assert opened.credit == 4
    opened.heartbeat(2, 10, 0, 3.0)
    assert opened.credit == 10


def test_an_agent_that_knows_no_slots_is_sent_no_more_than_its_capacity() -> None:
    """It counts each command as one."""
    opened = session(capacity=10)
    opened.claimed("heavy", "lease", 1, 0.0)
    opened.weigh("heavy", 6)
    opened.claimed("light", "lease", 1, 0.0)
    for command_id in ("heavy", "light"):
        opened.received(command_id, "lease", 1.0)
    opened.heartbeat(1, 8, 2, 2.0)
    assert opened.credit == 3


def test_a_kept_heavy_command_uses_its_slots() -> None:
    opened = session(capacity=10)
    item = InFlight("lease1", 1, 500.0)
    item.slots = 6
    opened.adopted("c1", item)
    assert opened.credit == 4


def test_what_waits_is_claimed_once_its_slots_are_free() -> None:
    opened = session(capacity=3)
    opened.more_waiting, opened.needed_slots = True, 2
    opened.claimed("a", "lease", 1, 0.0)
    opened.claimed("b", "lease", 1, 0.0)
    assert (opened.credit, opened.takes_more, opened.takes_waiting) == (1, False, False)
    opened.ended("a", "lease")
    assert (opened.credit, opened.takes_more, opened.takes_waiting) == (2, True, True)


def test_the_end_of_a_command_without_a_lease_is_no_end_of_one_that_is_stopping() -> None:
    opened = session()
    assert opened.ended("c1", "") is None
    opened.stopping("c2", "lease2")
    assert opened.ended("c1", "") is None
    assert opened.credit == 2
