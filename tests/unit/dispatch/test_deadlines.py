from __future__ import annotations

import asyncio

import pytest

from distributor.dispatch.deadline_alarm import DeadlineAlarm
from distributor.dispatch.deadlines import MIN_WAIT_SECONDS, Deadlines
from distributor.dispatch.wakeups import Wakeups
from distributor.model.delivery import DueCommand
from distributor.model.lifecycle import CommandStatus
from distributor.model.retry_policy import RetryPolicy
from tests.support.memory_stores import MemoryStore
from tests.support.own_logs import own_logs
from tests.support.serving_agent import background
from tests.support.waiting import PATIENCE_SECONDS, until


def made(max_wait_seconds: float = 1.0) -> tuple[Deadlines, MemoryStore, Wakeups]:
    store, wakeups = MemoryStore(), Wakeups()
    return Deadlines(store, wakeups, RetryPolicy(3, 1_000, 60_000), max_wait_seconds), store, wakeups


@pytest.mark.parametrize(("next_ms", "wait"), [(None, 9.0), (0, MIN_WAIT_SECONDS), (500, 0.5), (86_400_000, 9.0)])
async def test_it_waits_until_the_next_deadline_within_bounds(next_ms: int | None, wait: float) -> None:
    loop, store, _ = made(max_wait_seconds=9.0)
    store.due_answers.append((next_ms, []))
    assert await loop.run_once() == wait


async def test_it_goes_on_at_once_after_a_full_call() -> None:
    loop, store, _ = made()
    store.due_answers.append((0, [DueCommand("c1", "a", CommandStatus.TIMEOUT)]))
    assert await loop.run_once() == 0.0


async def test_an_alarm_ends_the_wait_once() -> None:
    alarm, clock = DeadlineAlarm(), asyncio.get_running_loop()
    waiting = asyncio.create_task(alarm.wait(PATIENCE_SECONDS))
    await asyncio.sleep(0)
    alarm.set(2 * PATIENCE_SECONDS)
    begun = clock.time()
    alarm.set(0.01)
    alarm.set(0.02)
    await waiting
    assert 0.01 <= clock.time() - begun < PATIENCE_SECONDS
    begun = clock.time()
    await alarm.wait(0.05)
    assert clock.time() - begun >= 0.05


async def test_an_alarm_that_was_set_before_the_wait_counts() -> None:
    alarm = DeadlineAlarm()
    alarm.set()
    async with asyncio.timeout(PATIENCE_SECONDS / 2):
        await alarm.wait(PATIENCE_SECONDS)


async def test_it_rings_for_what_is_to_be_given_out_again_only() -> None:
    loop, store, wakeups = made()
    done = [
        DueCommand("c1", "a", CommandStatus.QUEUED),
        DueCommand("c2", "b", CommandStatus.TIMEOUT),
        DueCommand("c3", "c", CommandStatus.FAILED),
    ]
    store.due_answers.append((None, done))
    await loop.run_once()
    assert wakeups.take() == {"a"}


async def test_delays_are_drawn_anew_each_time_within_the_policys_bounds() -> None:
    loop, store, _ = made()
    for _ in range(50):
        await loop.run_once()
    assert all(len(delays) == 3 for delays in store.due_delays)
    for attempt, bound in enumerate((1_000, 2_000, 4_000)):
        drawn = [delays[attempt] for delays in store.due_delays]
        assert 0 <= min(drawn) < max(drawn) < bound


async def test_the_loop_goes_on_after_valkey_was_away() -> None:
    loop, store, _ = made(max_wait_seconds=0.001)
    store.away = True
    with own_logs() as logs:
        async with background(loop.run()):
            await until(lambda: store.failures >= 2)
            store.away = False
            await until(lambda: len(store.due_delays) >= 2)
    assert [line["event"] for line in logs] == ["cannot look at deadlines", "can look at deadlines again"]
