"""How many short commands are in progress."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from distributor.model.concurrency import WINDOW_SECONDS, Concurrency

NOW = 100.0


def test_it_counts_what_has_begun_and_not_ended() -> None:
    concurrency = Concurrency()
    concurrency.began(5, NOW)
    concurrency.ended(2, NOW)
    assert concurrency.in_progress(NOW) == 3


def test_one_command_after_another_is_never_more_than_one() -> None:
    concurrency = Concurrency()
    for number in range(1_000):
        concurrency.began(1, NOW + number / 1_000)
        assert concurrency.in_progress(NOW + number / 1_000) == 1
        concurrency.ended(1, NOW + (number + 0.5) / 1_000)


def test_an_end_counts_against_commands_of_the_window_before() -> None:
    concurrency = Concurrency()
    concurrency.began(10, NOW)
    later = NOW + 1.5 * WINDOW_SECONDS
    concurrency.began(5, later)
    concurrency.ended(10, later)
    assert concurrency.in_progress(later) == 5
    assert concurrency.in_progress(later + WINDOW_SECONDS) == 5, "those that ended were the earlier ones"


def test_commands_that_run_long_are_not_counted() -> None:
    concurrency = Concurrency()
    concurrency.began(10_000, NOW)
    assert concurrency.in_progress(NOW + 0.9 * WINDOW_SECONDS) == 10_000
    assert concurrency.in_progress(NOW + 2.1 * WINDOW_SECONDS) == 0


def test_the_ends_of_long_commands_do_not_hide_later_ones() -> None:
    concurrency = Concurrency()
    concurrency.ended(10_000, NOW)
    concurrency.began(3, NOW)
    assert concurrency.in_progress(NOW) == 3


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 100), st.floats(0, 0.2)), max_size=50))
def test_none_is_in_progress_after_all_have_ended(steps: list[tuple[bool, int, float]]) -> None:
    concurrency, now, in_progress = Concurrency(), NOW, 0
    for begins, count, pause in steps:
        now += pause
        if begins:
            concurrency.began(count, now)
            in_progress += count
        else:
            count = min(count, in_progress)
            concurrency.ended(count, now)
            in_progress -= count
    concurrency.ended(in_progress, now)
    assert concurrency.in_progress(now) == 0
