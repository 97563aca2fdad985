"""When a cut stream is opened again."""

from __future__ import annotations

import pytest

from distributor import errors
from distributor.client import ClientOptions
from distributor.client.reconnecting import Deadline, Reconnecting
from distributor.model.retry_policy import RetryPolicy

OPTIONS = ClientOptions(
    calls=RetryPolicy(attempts=3, first_ms=0, most_ms=0), reconnects=RetryPolicy(first_ms=0, most_ms=0)
)
AWAY = errors.Unavailable("away")


async def test_errors_that_stay_are_raised_at_once() -> None:
    with pytest.raises(errors.NotFound):
        await Reconnecting(OPTIONS, Deadline(None)).pause(errors.NotFound("gone"))


async def test_a_server_never_reached_is_tried_as_often_as_a_call() -> None:
    reconnecting = Reconnecting(OPTIONS, Deadline(None))
    await reconnecting.pause(AWAY)
    await reconnecting.pause(AWAY)

    with pytest.raises(errors.Unavailable):
        await reconnecting.pause(AWAY)


async def test_a_server_once_reached_has_time_to_come_back() -> None:
    reconnecting = Reconnecting(OPTIONS, Deadline(None))
    reconnecting.progressed()
    for _ in range(100):
        await reconnecting.pause(AWAY)


async def test_a_deadline_ends_it_whatever_the_server_said() -> None:
    with pytest.raises(TimeoutError, match="not ended after 0 s of waiting"):
        await Reconnecting(OPTIONS, Deadline(0)).pause(AWAY)
    late = errors.Unavailable("late", reason="DEADLINE_EXCEEDED")
    with pytest.raises(TimeoutError):
        await Reconnecting(OPTIONS, Deadline(60)).pause(late)


async def test_a_pause_asked_for_ends_at_the_deadline() -> None:
    reconnecting = Reconnecting(OPTIONS, Deadline(0.01))
    await reconnecting.pause(errors.Unavailable("draining", retry_after_seconds=3_600))

    with pytest.raises(TimeoutError):
        await reconnecting.pause(AWAY)


def test_a_call_takes_what_remains_as_its_timeout() -> None:
    assert Deadline(None).remaining_seconds is None
    assert Deadline(-1).remaining_seconds == 0.0
    assert 50 < (Deadline(60).remaining_seconds or 0) <= 60
