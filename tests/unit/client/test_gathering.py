"""Which requests leave together, and when."""

from __future__ import annotations

import pytest

from distributor.client.gathering import Gathering, GatheringLimits

LIMITS = GatheringLimits(items=3, enough=3, size_bytes=100, in_flight=2, patience_seconds=5)


def gathering(*items: str, size_bytes: int = 1, now: float = 0) -> Gathering[str]:
    waiting: Gathering[str] = Gathering(LIMITS)
    for item in items:
        waiting.add(item, size_bytes, now)
    return waiting


def test_one_leaves_at_once() -> None:
    assert gathering("a").take_group(0) == ["a"]


def test_those_present_leave_together_in_order() -> None:
    assert gathering("b", "a").take_group(0) == ["b", "a"]


def test_while_a_group_is_in_flight_others_gather_until_it_ends() -> None:
    waiting = gathering("a")
    waiting.take_group(0)
    waiting.add("b", 1, 1)
    waiting.add("c", 1, 2)
    assert waiting.take_group(2) == []
    waiting.group_ended()
    assert waiting.take_group(2) == ["b", "c"]


def test_the_oldest_waits_no_longer_than_the_patience() -> None:
    waiting = gathering("a")
    waiting.take_group(0)
    waiting.add("b", 1, 1)
    waiting.add("c", 1, 4)
    assert waiting.leaves_at == 6
    assert waiting.take_group(5.9) == []
    assert waiting.take_group(6) == ["b", "c"]


def test_a_full_group_does_not_wait() -> None:
    waiting = gathering("a")
    waiting.take_group(0)
    for item in "bcde":
        waiting.add(item, 1, 1)
    assert waiting.take_group(1) == ["b", "c", "d"]


def test_a_group_full_of_bytes_does_not_wait() -> None:
    waiting = gathering("a")
    waiting.take_group(0)
    waiting.add("b", 60, 1)
    waiting.add("c", 60, 1)
    assert waiting.take_group(1) == ["b"]


OVERLAPPING = GatheringLimits(items=50, enough=10)


def overlapping(count: int) -> Gathering[int]:
    waiting: Gathering[int] = Gathering(OVERLAPPING)
    for item in range(count):
        waiting.add(item, 1, 0)
    return waiting


@pytest.mark.parametrize(("count", "sizes"), [(19, [19]), (20, [10, 10]), (41, [21, 20]), (130, [50, 50])])
def test_those_that_are_enough_for_two_groups_leave_in_two(count: int, sizes: list[int]) -> None:
    waiting = overlapping(count)
    assert [len(group) for group in iter(lambda: waiting.take_group(0), [])] == sizes


def test_two_groups_stay_in_flight_while_their_callers_queue_again() -> None:
    waiting = overlapping(40)
    in_flight = [waiting.take_group(0), waiting.take_group(0)]
    for turn in range(10):
        answered = in_flight.pop(0)
        waiting.group_ended()
        assert waiting.take_group(turn) == []
        for item in answered:
            waiting.add(item, 1, turn)
        in_flight.append(waiting.take_group(turn))
        assert [len(group) for group in in_flight] == [20, 20]


def test_too_few_to_overlap_wait_for_the_answer() -> None:
    waiting = overlapping(1)
    waiting.take_group(0)
    for item in range(9):
        waiting.add(item, 1, 0)
    assert waiting.take_group(0) == []
    waiting.add(9, 1, 0)
    assert len(waiting.take_group(0)) == 10


def test_no_more_groups_are_in_flight_than_allowed() -> None:
    waiting = gathering(*"abcdefghi")
    assert [waiting.take_group(0), waiting.take_group(0)] == [["a", "b", "c"], ["d", "e", "f"]]
    assert waiting.leaves_at is None
    assert waiting.take_group(1_000) == []
    waiting.group_ended()
    assert waiting.take_group(1_000) == ["g", "h", "i"]


def test_one_that_is_larger_than_a_group_leaves_by_itself() -> None:
    waiting = gathering("a", "b", size_bytes=1_000)
    assert [waiting.take_group(0), waiting.take_group(0)] == [["a"], ["b"]]


def test_one_that_must_be_alone_divides_those_before_and_after_it() -> None:
    waiting = gathering("a", "b")
    waiting.add("c", 1, 0, alone=True)
    waiting.add("d", 1, 0)
    groups = []
    for _ in range(3):
        groups.append(waiting.take_group(0))
        waiting.group_ended()
    assert groups == [["a", "b"], ["c"], ["d"]]


def test_one_that_was_removed_does_not_leave_and_does_not_count() -> None:
    waiting = gathering("a", "b", size_bytes=60)
    waiting.discard("a")
    waiting.discard("unknown")
    assert waiting.take_group(0) == ["b"]
    waiting.add("c", 60, 1)
    waiting.discard("c")
    waiting.add("d", 60, 1)
    assert waiting.take_group(1) == []
