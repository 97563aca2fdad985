"""Several tasks at once: waiting for the first of them to end, and ending all of them for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, ParamSpec, TypeVar

CANCEL_AGAIN_SECONDS: Final = 0.1
LARGE_BYTES: Final = 16_384
"""Of a message: walking the values in more than this may take over 5 ms."""

P = ParamSpec("P")
T = TypeVar("T")


async def off_loop(size: int, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """The value of `work`, whose cost grows with `size` in bytes: called here if that is small, else in a thread.

    A thread shares the interpreter, so the loop goes on in steps of some milliseconds instead of standing still.
    """
    if size <= LARGE_BYTES:
        return work(*arguments, **named)
    return await asyncio.to_thread(work, *arguments, **named)


async def first_of(*coroutines: Coroutine[Any, Any, None], again_seconds: float = CANCEL_AGAIN_SECONDS) -> int:
    """Run all until the first ends, then end the others; returns which it was.

    Raises what it failed with, or else what another failed with on being ended. One that takes longer than
    `again_seconds` to tidy up is cancelled in the midst of that.
    """
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await stop_tasks(tasks, again_seconds)
    for task in sorted(tasks, key=lambda task: task not in done):
        if task in done or not task.cancelled():
            task.result()
    return min(tasks.index(task) for task in done)


async def first_to_end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Wait until one of these has ended, and raise what it failed with. The others go on."""
    done, _ = await asyncio.wait(list(tasks), return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


async def finishes(work: Coroutine[Any, Any, object], within: float | None) -> bool:
    """Whether `work` finishes within so many seconds; where it does not, it is cancelled.

    For tasks that are being cancelled and still have something to end: in those, before Python 3.11.3, the end of an
    asyncio.timeout is taken for another cancel.
    """
    working = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({working}, timeout=within)
    finally:
        await stop_tasks({working})
    for task in done:
        task.result()
    return bool(done)


async def stop_tasks(tasks: Iterable[asyncio.Task[Any]], again_seconds: float = CANCEL_AGAIN_SECONDS) -> None:
    """Cancel tasks and return once all of them have ended, whatever they ended with.

    Asked again until they end: a cancel that meets a reply of Valkey at the same moment can get lost (seen).
    """
    wanted = list(tasks)
    while running := [task for task in wanted if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=again_seconds)
    await asyncio.gather(*wanted, return_exceptions=True)
