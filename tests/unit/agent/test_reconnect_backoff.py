from __future__ import annotations

import itertools

from distributor.agent.reconnect_backoff import ReconnectBackoff, StreamOutcome

FAILED, CONFIRMED, BY_DESIGN = StreamOutcome.FAILED, StreamOutcome.CONFIRMED, StreamOutcome.BY_DESIGN


def backoff(random: float = 1.0) -> ReconnectBackoff:
    return ReconnectBackoff(lambda: random)


def test_the_wait_doubles_up_to_a_minute() -> None:
    waiting = backoff()
    assert [waiting.delay(FAILED) for _ in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_the_whole_wait_is_at_random() -> None:
    chances = itertools.cycle([0.0, 0.25, 0.5])
    waiting = ReconnectBackoff(lambda: next(chances))
    assert [waiting.delay(FAILED) for _ in range(3)] == [0.0, 0.5, 2.0]


def test_a_stream_that_worked_makes_its_loss_the_first_failure() -> None:
    waiting = backoff()
    for _ in range(5):
        waiting.delay(FAILED)
    assert [waiting.delay(CONFIRMED), waiting.delay(FAILED)] == [1, 2]


def test_a_stream_that_worked_and_ended_as_it_should_resets_the_wait() -> None:
    waiting = backoff()
    for _ in range(5):
        waiting.delay(FAILED)
    waiting.confirm()
    assert waiting.delay(FAILED) == 1


def test_a_server_that_goes_neither_raises_nor_resets_the_wait() -> None:
    waiting = backoff()
    assert [waiting.delay(outcome) for outcome in (FAILED, FAILED, BY_DESIGN, BY_DESIGN, FAILED)] == [1, 2, 1, 1, 4]
