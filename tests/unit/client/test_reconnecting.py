"""When a cut stream is opened again."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from distributor import errors
from distributor.client import ClientOptions, Connectivity, reconnecting
from distributor.client.reconnecting import ConnectivityReporter, Deadline, ReconnectState
from distributor.model.retry_policy import RetryPolicy

OPTIONS = ClientOptions(
    calls=RetryPolicy(attempts=3, first_ms=0, max_ms=0), reconnects=RetryPolicy(first_ms=0, max_ms=0)
)
AWAY = errors.Unavailable("away")


def reconnecting_until(deadline: Deadline) -> ReconnectState:
    return ReconnectState(OPTIONS, deadline, ConnectivityReporter("host:1", OPTIONS))


async def test_errors_that_stay_are_raised_at_once() -> None:
    with pytest.raises(errors.NotFound):
        await reconnecting_until(Deadline(None)).pause(errors.NotFound("gone"))


async def test_a_server_never_reached_is_tried_as_often_as_a_call() -> None:
    reconnecting = reconnecting_until(Deadline(None))
    await reconnecting.pause(AWAY)
    await reconnecting.pause(AWAY)

    with pytest.raises(errors.Unavailable):
        await reconnecting.pause(AWAY)


async def test_a_server_once_reached_has_time_to_come_back() -> None:
    reconnecting = reconnecting_until(Deadline(None))
    reconnecting.progressed()
    for _ in range(100):
        await reconnecting.pause(AWAY)


async def test_an_outage_is_reported_once_for_all_streams_and_so_is_its_end() -> None:
    reported: list[Connectivity] = []
    options = replace(OPTIONS, on_connectivity=reported.append)
    connectivity = ConnectivityReporter("host:1", options)
    streams = [ReconnectState(options, Deadline(None), connectivity) for _ in range(2)]
    for stream in streams:
        stream.progressed()
        await stream.pause(AWAY)
    assert reported == [], "a cut that is mended at once is not reported"

    for stream in streams:
        await stream.pause(AWAY)
        await stream.pause(AWAY)
    assert reported == [Connectivity("host:1", False, 60.0)]

    for stream in streams:
        stream.progressed()
    assert reported[1:] == [Connectivity("host:1", True)]


async def test_a_server_never_reached_is_no_outage() -> None:
    reported: list[Connectivity] = []
    options = replace(OPTIONS, on_connectivity=reported.append)
    stream = ReconnectState(options, Deadline(None), ConnectivityReporter("host:1", options))
    await stream.pause(AWAY)
    await stream.pause(AWAY)

    assert reported == []


async def test_a_deadline_ends_it_whatever_the_server_said() -> None:
    with pytest.raises(TimeoutError, match="not ended after 0 s of waiting"):
        await reconnecting_until(Deadline(0)).pause(AWAY)
    late = errors.Unavailable("late", reason="DEADLINE_EXCEEDED")
    with pytest.raises(TimeoutError):
        await reconnecting_until(Deadline(60)).pause(late)


async def test_a_pause_asked_for_ends_at_the_deadline() -> None:
    reconnecting = reconnecting_until(Deadline(0.01))
    await reconnecting.pause(errors.Unavailable("draining", retry_after_seconds=3_600))

    with pytest.raises(TimeoutError):
        await reconnecting.pause(AWAY)


def test_a_call_takes_what_remains_as_its_timeout() -> None:
    assert Deadline(None).remaining_seconds is None
    assert Deadline(-1).remaining_seconds == 0.0
    assert 50 < (Deadline(60).remaining_seconds or 0) <= 60


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each pause, none of which is waited for."""
    seconds: list[float] = []

    async def sleep(delay: float) -> None:
        seconds.append(delay)

    # Not asyncio's own: loops of servers that other tests share would spin.
    monkeypatch.setattr(reconnecting, "asyncio", SimpleNamespace(sleep=sleep))
    return seconds


def drawing(*draws: float) -> ClientOptions:
    """Options with delays of 1, 2, 4 s and so on, of which these parts are drawn."""
    delays = RetryPolicy(attempts=100, first_ms=1_000, max_ms=60_000)
    return ClientOptions(calls=delays, reconnects=delays, jitter=iter(draws).__next__)


async def test_pauses_grow_and_are_jittered(slept: list[float]) -> None:
    options = drawing(0.5, 0.25, 0.75)
    stream = ReconnectState(options, Deadline(None), ConnectivityReporter("host:1", options))
    for _ in range(3):
        await stream.pause(AWAY)
    assert slept == [0.5, 0.5, 3.0]


async def test_a_second_outage_begins_with_the_shortest_pause_and_all_the_time(slept: list[float]) -> None:
    options = replace(drawing(*[0.5] * 100), give_up_after_seconds=0.0)
    stream = ReconnectState(options, Deadline(None), ConnectivityReporter("host:1", options))
    for _ in range(3):
        await stream.pause(AWAY)
        stream.progressed()
    assert slept == [0.5, 0.5, 0.5]


async def test_a_server_reached_before_is_given_up_after_its_time(slept: list[float]) -> None:
    options = replace(drawing(*[0.5] * 100), give_up_after_seconds=-1.0)
    stream = ReconnectState(options, Deadline(None), ConnectivityReporter("host:1", options))
    stream.progressed()
    with pytest.raises(errors.Unavailable):
        await stream.pause(AWAY)
    assert slept == []
