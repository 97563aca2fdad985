from __future__ import annotations

import asyncio

import pytest

from distributor.store.group_commit import GroupCommit


class Wire:
    """Answers each item with its double, one call at a time, when the test says so."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()
        self.error: Exception | None = None
        self.under_way = 0

    async def send(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        self.under_way += 1
        assert self.under_way == 1
        await self.open.wait()
        self.under_way -= 1
        if self.error is not None:
            raise self.error
        return [item * 2 for item in items]


@pytest.fixture
async def wire() -> Wire:
    return Wire()


async def begun(*submissions: asyncio.Task[list[int]]) -> None:
    """Let every task run until it waits."""
    for _ in range(3):
        await asyncio.sleep(0)
    assert not any(task.done() for task in submissions)


async def test_one_call_alone_goes_at_once(wire: Wire) -> None:
    wire.open.set()
    group = GroupCommit(wire.send, max_items=10)
    assert await group.submit([1, 2]) == [2, 4]
    assert wire.batches == [[1, 2]]


async def test_nothing_is_not_sent(wire: Wire) -> None:
    assert await GroupCommit(wire.send, max_items=10).submit([]) == []
    assert wire.batches == []


async def test_what_arrives_during_a_call_travels_together_in_order(wire: Wire) -> None:
    group = GroupCommit(wire.send, max_items=10)
    first = asyncio.create_task(group.submit([1]))
    await begun(first)
    others = [asyncio.create_task(group.submit([n, n + 1])) for n in (10, 20, 30)]
    await begun(first, *others)
    wire.open.set()
    assert await asyncio.gather(first, *others) == [[2], [20, 22], [40, 42], [60, 62]]
    assert wire.batches == [[1], [10, 11, 20, 21, 30, 31]]


async def test_a_batch_has_at_most_so_many_and_calls_stay_whole(wire: Wire) -> None:
    wire.open.set()
    group = GroupCommit(wire.send, max_items=4)
    replies = await asyncio.gather(*(group.submit([n] * size) for n, size in ((1, 3), (2, 2), (3, 2), (4, 1))))
    assert [len(reply) for reply in replies] == [3, 2, 2, 1]
    assert wire.batches == [[1, 1, 1], [2, 2, 3, 3], [4]]


async def test_a_large_call_is_split_and_answered_in_order(wire: Wire) -> None:
    wire.open.set()
    group = GroupCommit(wire.send, max_items=4)
    assert await group.submit(list(range(10))) == [n * 2 for n in range(10)]
    assert [len(batch) for batch in wire.batches] == [4, 4, 2]


async def test_an_error_reaches_each_caller_of_its_batch_and_nobody_else(wire: Wire) -> None:
    group = GroupCommit(wire.send, max_items=10)
    first = asyncio.create_task(group.submit([1]))
    await begun(first)
    others = [asyncio.create_task(group.submit([n])) for n in (2, 3)]
    await begun(*others)
    wire.error = ConnectionError("away")
    wire.open.set()
    with pytest.raises(ConnectionError):
        await first
    # The first batch failed; the second is on its way and fails too, for both of its callers.
    assert [str(error) for error in await asyncio.gather(*others, return_exceptions=True)] == ["away", "away"]
    wire.error = None
    assert await group.submit([4]) == [8]
    assert wire.batches == [[1], [2, 3], [4]]


async def test_a_caller_that_is_cancelled_disturbs_nobody(wire: Wire) -> None:
    group = GroupCommit(wire.send, max_items=10)
    under_way = asyncio.create_task(group.submit([1]))
    await begun(under_way)
    waiting, patient = (asyncio.create_task(group.submit([n])) for n in (2, 3))
    await begun(waiting, patient)
    under_way.cancel()
    waiting.cancel()
    wire.open.set()
    assert await patient == [6]
    assert under_way.cancelled()
    assert waiting.cancelled()
    assert wire.batches == [[1], [2, 3]], "what was asked for is done, whether or not anybody waits for the answer"


async def test_a_cancelled_caller_of_a_call_that_fails(wire: Wire) -> None:
    group = GroupCommit(wire.send, max_items=10)
    task = asyncio.create_task(group.submit([1]))
    await begun(task)
    task.cancel()
    wire.error = ConnectionError("away")
    wire.open.set()
    await group.idle()
    assert task.cancelled()


async def test_idle_waits_for_what_is_under_way(wire: Wire) -> None:
    group = GroupCommit(wire.send, max_items=1)
    await group.idle()
    tasks = [asyncio.create_task(group.submit([n])) for n in range(3)]
    await begun(*tasks)
    idle = asyncio.create_task(group.idle())
    await asyncio.sleep(0)
    assert not idle.done()
    wire.open.set()
    await idle
    assert wire.batches == [[0], [1], [2]]
    assert [await task for task in tasks] == [[0], [2], [4]]
