from __future__ import annotations

import asyncio

import pytest

from bench.peers.results import Results


async def test_a_result_is_found_before_and_after_it_is_awaited() -> None:
    results = Results()
    waiting = asyncio.create_task(results.of("a"))
    await asyncio.sleep(0)
    results.add("a")
    assert await waiting == await results.of("a")


async def test_counts_are_reached_one_by_one() -> None:
    results = Results()
    reached: list[int] = []

    async def wait(count: int) -> None:
        await results.count_reaches(count)
        reached.append(count)

    async with asyncio.timeout(10):
        waiting = [asyncio.create_task(wait(count)) for count in (3, 1, 2, 0)]
        await asyncio.wait({waiting[3]})
        assert reached == [0]
        for place, number in ((1, "a"), (2, "b"), (0, "c")):
            results.add(number)
            await waiting[place]
    assert reached == [0, 1, 2, 3]


async def test_a_count_whose_waiter_was_cancelled_hinders_nobody() -> None:
    results = Results()
    waiting = [asyncio.create_task(results.count_reaches(1)) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    results.add("a")
    await waiting[1]


async def test_a_second_result_of_a_command_is_an_error() -> None:
    results = Results()
    results.add("a")
    with pytest.raises(ValueError, match="two results"):
        results.add("a")


async def test_after_clearing_counts_begin_again() -> None:
    results = Results()
    results.add("a")
    results.clear()
    waiting = asyncio.create_task(results.count_reaches(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    results.add("a")
    await waiting
