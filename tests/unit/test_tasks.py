from __future__ import annotations

import asyncio

import pytest

from distributor.tasks import CANCEL_AGAIN_SECONDS, finishes, first_of, first_to_end, stop_tasks
from tests.support.waiting import PATIENCE_SECONDS


async def deaf_to_the_first_cancel() -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.Event().wait()


async def forever(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("ended")


async def at_once() -> None:
    pass


async def failing() -> None:
    raise RuntimeError("it broke")


async def failing_once_cancelled() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise RuntimeError("it broke on being ended")


async def test_the_first_to_end_ends_the_others() -> None:
    ended: list[str] = []
    assert await first_of(forever(ended), at_once(), forever(ended)) == 1
    assert ended == ["ended", "ended"]


async def test_what_it_failed_with_is_raised_rather_than_what_another_did() -> None:
    with pytest.raises(RuntimeError, match="^it broke$"):
        await first_of(failing_once_cancelled(), failing())


async def test_a_failure_on_being_ended_is_raised() -> None:
    with pytest.raises(RuntimeError, match="it broke on being ended"):
        await first_of(at_once(), failing_once_cancelled())


async def test_being_cancelled_ends_all() -> None:
    ended: list[str] = []
    waiting = asyncio.create_task(first_of(forever(ended), forever(ended)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended == ["ended", "ended"]


async def test_the_others_are_cancelled_until_they_end() -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await first_of(deaf_to_the_first_cancel(), at_once()) == 1


async def test_the_others_may_be_given_time_to_tidy_up() -> None:
    tidy = asyncio.Event()

    async def tidying() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            asyncio.get_running_loop().call_later(2 * CANCEL_AGAIN_SECONDS, tidy.set)
            await tidy.wait()

    assert await first_of(tidying(), at_once(), again_seconds=PATIENCE_SECONDS) == 1
    assert tidy.is_set()


async def test_what_ends_in_time_has_finished() -> None:
    assert await finishes(at_once(), within=PATIENCE_SECONDS)


async def test_what_does_not_is_ended() -> None:
    ended: list[str] = []
    assert not await finishes(forever(ended), within=0.01)
    assert ended == ["ended"]


async def test_work_that_fails_is_raised() -> None:
    with pytest.raises(RuntimeError, match="it broke"):
        await finishes(failing(), within=None)


async def test_tasks_are_cancelled_until_they_end() -> None:
    tasks = [asyncio.create_task(deaf_to_the_first_cancel()), asyncio.create_task(failing())]
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await stop_tasks(tasks)
    assert all(task.done() for task in tasks)


async def test_there_may_be_none() -> None:
    await stop_tasks([])


async def test_the_first_of_tasks_that_go_on_is_raised_with_what_it_failed_with() -> None:
    waiting, broken = asyncio.create_task(asyncio.Event().wait()), asyncio.create_task(failing())
    with pytest.raises(RuntimeError, match="it broke"):
        await first_to_end([waiting, broken])
    assert not waiting.done()
    await stop_tasks([waiting])
