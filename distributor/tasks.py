"""Runs, awaits and reliably cancels groups of tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, ParamSpec, TypeVar

CANCEL_AGAIN_SECONDS: Final = 0.1
LARGE_BYTES: Final = 16_384
"""Message size above which walking the values may take more than 5 ms."""

P = ParamSpec("P")
T = TypeVar("T")


async def off_loop(size: int, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Return the value of `work`, whose cost grows with `size` in bytes. Runs in a thread if `size` is large.

    The thread shares the interpreter lock, so the loop is slowed by a few milliseconds at a time but not blocked.
    """
    if size <= LARGE_BYTES:
        return work(*arguments, **named)
    return await asyncio.to_thread(work, *arguments, **named)


async def first_of(*coroutines: Coroutine[Any, Any, None], again_seconds: float = CANCEL_AGAIN_SECONDS) -> int:
    """Run all until one ends, then cancel the others; return the index of the first to end.

    Raises the error of the first, or else an error that another raised when cancelled. A coroutine that needs more
    than `again_seconds` to clean up is cancelled again.
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
    """Wait until one of these tasks ends, and raise its error if it failed. The others continue."""
    done, _ = await asyncio.wait(list(tasks), return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


async def finishes(work: Coroutine[Any, Any, object], within: float | None) -> bool:
    """Return whether `work` finishes within `within` seconds (None: no limit); cancel it if not.

    For tasks that clean up while being cancelled: before Python 3.11.3, asyncio.timeout mistakes its own expiry there
    for another cancel.
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
    """Cancel tasks and return once all have ended. Ignores their errors.

    Cancels repeatedly: a cancel that coincides with a reply from Valkey can get lost (observed).
    """
    wanted = list(tasks)
    while running := [task for task in wanted if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=again_seconds)
    await asyncio.gather(*wanted, return_exceptions=True)
