from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from distributor.model.assignment import Offer, assign

ROOM = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(-2, 50), max_size=8).map(
    lambda room: list(room.items())
)


def test_as_much_as_there_is_credit_for_and_a_batch_at_most() -> None:
    room = [("a", 3), ("b", 0), ("c", 100), ("d", 20), ("e", -1)]
    assert assign(room, 20, turn=0) == [Offer("a", 3), Offer("c", 20), Offer("d", 20)]


def test_nobody_has_room() -> None:
    assert assign([], 20, turn=3) == []
    assert assign([("a", 0)], 20, turn=3) == []


def test_each_round_another_is_first() -> None:
    room = [("a", 1), ("b", 1), ("c", 1)]
    assert [assign(room, 20, turn)[0].agent_id for turn in range(4)] == ["a", "b", "c", "a"]


@given(ROOM, st.integers(1, 30), st.integers(0, 1_000))
def test_everybody_with_credit_is_served_once_within_the_bounds(
    room: list[tuple[str, int]], batch_size: int, turn: int
) -> None:
    credit = dict(room)
    offers = assign(room, batch_size, turn)
    assert sorted(offer.agent_id for offer in offers) == sorted(name for name in credit if credit[name] > 0)
    assert all(offer.most == min(credit[offer.agent_id], batch_size) > 0 for offer in offers)
