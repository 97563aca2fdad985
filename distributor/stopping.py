"""Ending background tasks for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

CANCEL_AGAIN_SECONDS: Final = 0.1


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
