"""When so many commands are in progress that it pays to let calls gather."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from distributor.model.concurrency import HIGH, WINDOW_SECONDS, Concurrency

NOW = 100.0


def test_many_short_commands_at_once_are_high() -> None:
    concurrency = Concurrency()
    concurrency.began(HIGH - 1, NOW)
    assert not concurrency.high(NOW)
    concurrency.began(1, NOW)
    assert concurrency.high(NOW)


def test_one_command_after_another_is_never_high() -> None:
    concurrency = Concurrency()
    for number in range(1_000):
        concurrency.began(1, NOW + number / 1_000)
        assert not concurrency.high(NOW + number / 1_000)
        concurrency.ended(1, NOW + (number + 0.5) / 1_000)


def test_an_end_counts_against_commands_of_the_window_before() -> None:
    concurrency = Concurrency()
    concurrency.began(HIGH, NOW)
    later = NOW + 1.5 * WINDOW_SECONDS
    concurrency.began(HIGH // 2, later)
    assert concurrency.high(later)
    concurrency.ended(HIGH, later)
    assert not concurrency.high(later)
    concurrency.began(HIGH // 2, later)
    assert concurrency.high(later)


def test_commands_that_run_long_are_not_counted() -> None:
    concurrency = Concurrency()
    concurrency.began(10_000, NOW)
    assert concurrency.high(NOW + 0.9 * WINDOW_SECONDS)
    assert not concurrency.high(NOW + 2.1 * WINDOW_SECONDS)


def test_the_ends_of_long_commands_hide_later_ones_only_once() -> None:
    concurrency = Concurrency()
    concurrency.ended(10_000, NOW)
    concurrency.began(HIGH, NOW)
    assert concurrency.high(NOW)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 100), st.floats(0, 0.2)), max_size=50))
def test_it_is_never_high_after_all_have_ended(steps: list[tuple[bool, int, float]]) -> None:
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
    assert not concurrency.high(now)
