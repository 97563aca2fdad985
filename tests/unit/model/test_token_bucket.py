"""Token buckets by a clock of the test's own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from distributor.model.token_bucket import TokenBucket


def test_a_burst_and_then_the_rate() -> None:
    bucket = TokenBucket(rate=2, burst=3, now=0.0)
    assert [bucket.take(1, 0.0) for _ in range(3)] == [0, 0, 0]
    assert bucket.take(1, 0.0) == 0.5
    assert bucket.take(1, 0.5) == 0
    assert bucket.take(1, 100.0) == 0


def test_more_than_the_burst_is_owed() -> None:
    bucket = TokenBucket(rate=1, burst=2, now=0.0)
    assert bucket.take(5, 0.0) == 0
    assert bucket.take(1, 0.0) == 4
    assert bucket.take(1, 4.0) == 0


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(rate=1, burst=1, now=10.0)
    assert bucket.take(1, 10.0) == 0
    assert bucket.take(1, 5.0) == 1


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 10)), max_size=50))
def test_never_more_than_the_rate_and_one_burst_and_batch(steps: list[tuple[float, int]]) -> None:
    """Whoever waits as long as told gets what it asked for."""
    bucket, now, taken = TokenBucket(rate=3, burst=5, now=0.0), 0.0, 0
    for pause, amount in steps:
        now += pause
        wait = bucket.take(amount, now)
        if wait:
            now += wait
            assert bucket.take(amount, now) == 0
        taken += amount
        assert taken <= 3 * now + 5 + 10 + 1e-6


def test_asking_for_the_wait_takes_nothing() -> None:
    bucket = TokenBucket(rate=1.0, burst=2.0, now=0.0)
    assert [bucket.wait(2, 0.0) for _ in range(3)] == [0.0] * 3
    assert bucket.take(2, 0.0) == 0.0
    assert [bucket.wait(1, 0.0), bucket.wait(1, 0.5), bucket.take(1, 1.0)] == [1.0, 0.5, 0.0]
