from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.model.retry_policy import RetryPolicy


@pytest.mark.parametrize(
    ("attempt", "bound_ms"),
    [(0, 1_000), (1, 1_000), (2, 2_000), (3, 4_000), (6, 32_000), (7, 60_000), (100, 60_000), (10**9, 60_000)],
)
def test_the_bound_doubles_up_to_the_most(attempt: int, bound_ms: int) -> None:
    assert RetryPolicy().bound_ms(attempt) == bound_ms


@pytest.mark.parametrize(("random", "delay_ms"), [(0.0, 0), (0.5, 2_000), (0.999_999, 3_999)])
def test_full_jitter_draws_the_whole_delay(random: float, delay_ms: int) -> None:
    assert RetryPolicy().delay_ms(3, random) == delay_ms


@given(st.integers(1, 200), st.floats(0, 1, exclude_max=True), st.integers(1, 5_000), st.integers(5_000, 100_000))
def test_a_delay_is_never_beyond_its_bound(attempt: int, random: float, first_ms: int, max_ms: int) -> None:
    policy = RetryPolicy(first_ms=first_ms, max_ms=max_ms)
    assert 0 <= policy.delay_ms(attempt, random) <= policy.bound_ms(attempt) <= max_ms
    assert policy.bound_ms(attempt) <= policy.bound_ms(attempt + 1)


@pytest.mark.parametrize(
    ("attempts", "exhausted"), [(1, [True, True]), (2, [False, True]), (3, [False, False, True, True])]
)
def test_when_it_was_the_last(attempts: int, exhausted: list[bool]) -> None:
    policy = RetryPolicy(attempts=attempts)
    assert [policy.exhausted(attempt) for attempt in range(1, len(exhausted) + 1)] == exhausted
