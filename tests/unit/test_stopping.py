from __future__ import annotations

import asyncio

import pytest

from distributor.stopping import first_to_end, stop_tasks
from tests.support.waiting import PATIENCE_SECONDS


async def deaf_to_the_first_cancel() -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.Event().wait()


async def fails() -> None:
    raise ValueError("of no interest to who stops it")


async def test_tasks_are_cancelled_until_they_end() -> None:
    tasks = [asyncio.create_task(deaf_to_the_first_cancel()), asyncio.create_task(fails())]
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await stop_tasks(tasks)
    assert all(task.done() for task in tasks)


async def test_there_may_be_none() -> None:
    await stop_tasks([])


async def test_the_first_to_end_is_raised_with_what_it_failed_with() -> None:
    async def fail() -> None:
        raise RuntimeError("it broke")

    waiting, failing = asyncio.create_task(asyncio.Event().wait()), asyncio.create_task(fail())
    with pytest.raises(RuntimeError, match="it broke"):
        await first_to_end([waiting, failing])
    await stop_tasks([waiting])
