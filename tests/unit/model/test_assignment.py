from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from distributor.model.assignment import Offer, Room, assign

ROOM = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(-2, 50), max_size=8).map(
    lambda credits: [Room(agent_id, credit) for agent_id, credit in credits.items()]
)


def test_as_much_as_there_is_credit_for_and_a_batch_at_most() -> None:
    room = [Room("a", 3), Room("b", 0), Room("c", 100), Room("d", 20), Room("e", -1)]
    assert assign(room, 20, turn=0) == [Offer("a", 3), Offer("c", 20), Offer("d", 20)]


def test_nobody_has_room() -> None:
    assert assign([], 20, turn=3) == []
    assert assign([Room("a", 0)], 20, turn=3) == []


def test_control_commands_are_offered_whatever_the_credit() -> None:
    room = [Room("full", 0, 4), Room("idle", 2, 3), Room("neither", 0, 0)]
    assert assign(room, 20, turn=0) == [Offer("full", 0, 4), Offer("idle", 2, 3)]


def test_the_first_command_is_offered_all_slots_that_it_needs_and_no_more() -> None:
    room = [Room("light", 100), Room("fits", 100, 0, 20), Room("heavy", 100, 0, 50), Room("blocked", 30, 0, 50)]
    offers = assign(room, 20, turn=0)
    assert [(offer.max_commands, offer.max_slots) for offer in offers] == [(20, 20), (20, 20), (20, 50), (20, 30)]


def test_each_round_another_is_first() -> None:
    room = [Room("a", 1), Room("b", 1), Room("c", 1)]
    assert [assign(room, 20, turn)[0].agent_id for turn in range(4)] == ["a", "b", "c", "a"]


@given(ROOM, st.integers(1, 30), st.integers(0, 1_000))
def test_everybody_with_credit_is_served_once_within_the_bounds(room: list[Room], batch_size: int, turn: int) -> None:
    credit = {one.agent_id: one.credit for one in room}
    offers = assign(room, batch_size, turn)
    assert sorted(offer.agent_id for offer in offers) == sorted(name for name in credit if credit[name] > 0)
    assert all(offer.max_commands == min(credit[offer.agent_id], batch_size) > 0 for offer in offers)
