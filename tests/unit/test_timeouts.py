"""Many deadlines, with one timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from distributor.timeouts import Timeouts


class Clock:
    """The timers of a loop whose time the test sets."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []

    def call_at(self, when: float, callback: Callable[..., None], *arguments: Any) -> Timer:
        self.timers.append(Timer(when, lambda: callback(*arguments)))
        return self.timers[-1]

    def advance(self, until: float) -> None:
        while due := [timer for timer in self.running() if timer.when <= until]:
            due[0].cancel()
            due[0].run()

    def running(self) -> list[Timer]:
        return sorted((timer for timer in self.timers if not timer.cancelled), key=lambda timer: timer.when)


class Timer:
    def __init__(self, when: float, run: Callable[[], None]) -> None:
        self.when, self.run, self.cancelled = when, run, False

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def expired() -> list[str]:
    return []


@pytest.fixture
def timeouts(clock: Clock, expired: list[str]) -> Timeouts[str]:
    loop: Any = clock
    return Timeouts(loop, expired.append)


def test_each_expires_at_its_own_deadline(clock: Clock, timeouts: Timeouts[str], expired: list[str]) -> None:
    for item, deadline in (("b", 2.0), ("a", 1.0), ("c", 3.0), ("a too", 1.0)):
        timeouts.add(item, deadline)
    seen = []
    for now in (0.9, 1.0, 1.9, 2.0, 3.0):
        clock.advance(now)
        seen.append(list(expired))
    assert seen == [[], ["a", "a too"], ["a", "a too"], ["a", "a too", "b"], ["a", "a too", "b", "c"]]
    assert not clock.running()
    assert not timeouts.items


def test_one_that_was_discarded_does_not_expire(clock: Clock, timeouts: Timeouts[str], expired: list[str]) -> None:
    timeouts.add("a", 1.0)
    timeouts.add("b", 2.0)
    timeouts.discard("a")
    timeouts.discard("unknown")
    clock.advance(5.0)
    assert expired == ["b"]


def test_one_that_another_discards_as_it_expires_does_not_expire(clock: Clock, expired: list[str]) -> None:
    loop: Any = clock

    def expire(item: str) -> None:
        expired.append(item)
        two.discard("b")

    two: Timeouts[str] = Timeouts(loop, expire)
    two.add("a", 1.0)
    two.add("b", 1.0)
    clock.advance(2.0)
    assert expired == ["a"]


def test_items_that_end_in_time_share_a_timer(clock: Clock, timeouts: Timeouts[str]) -> None:
    for number in range(1_000):
        timeouts.add(str(number), 20 + number / 100)
        timeouts.discard(str(number))
    assert len(clock.timers) == 1
    clock.advance(25.0)
    assert not clock.running(), "nothing waits"


def test_nothing_expires_after_the_close(clock: Clock, timeouts: Timeouts[str], expired: list[str]) -> None:
    timeouts.add("a", 1.0)
    timeouts.close()
    clock.advance(5.0)
    assert expired == []
    assert not clock.running()


async def test_on_a_real_loop() -> None:
    expired: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    timeouts = Timeouts(loop, expired.put_nowait)
    timeouts.add("late", loop.time() + 600)
    timeouts.add("soon", loop.time() + 0.001)
    async with asyncio.timeout(5):
        assert await expired.get() == "soon"
    assert list(timeouts.items) == ["late"]
    timeouts.close()
