"""Background tasks: learning that one has failed, and ending them for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

CANCEL_AGAIN_SECONDS: Final = 0.1


async def first_to_end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Wait until one of these has ended, and raise what it failed with."""
    done, _ = await asyncio.wait(list(tasks), return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


async def stop_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and return once all of them have ended, whatever they ended with.

    Asked again until they end: a cancel that meets a reply of Valkey at the same moment can get lost (seen).
    """
    wanted = list(tasks)
    while running := [task for task in wanted if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=CANCEL_AGAIN_SECONDS)
    await asyncio.gather(*wanted, return_exceptions=True)
