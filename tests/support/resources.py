"""What abuse may cost this process: file descriptors and memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from bench.proc_files import resident_bytes
from tests.support.waiting import until

MOST_KEPT_BYTES: Final = 64 << 20
"""Growth of the process beside an attack: buffers of sockets and of the attacker itself, which runs here too."""
MOST_KEPT_FILES: Final = 4
SLOWEST_SECONDS: Final = 5.0
"""For others' calls beside an attack, on a busy machine."""


def open_files() -> int:
    """Number of open file descriptors."""
    return len(os.listdir("/proc/self/fd"))


@asynccontextmanager
async def harmless(call: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Assert that what happens inside the context leaves no files and little memory, and that others are served.

    Makes `call` all the time, and at least once during the attack and after it.
    """
    await call()
    files, memory = open_files(), resident_bytes(os.getpid())
    slowest, done = 0.0, 0

    async def others() -> None:
        nonlocal slowest, done
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            await call()
            slowest, done = max(slowest, loop.time() - begun), done + 1
            await asyncio.sleep(0.01)

    calling = asyncio.create_task(others())
    try:
        yield
        await until(lambda: done or calling.done())
    finally:
        if not calling.done():
            calling.cancel()
        (error,) = await asyncio.gather(calling, return_exceptions=True)
    assert isinstance(error, asyncio.CancelledError), error
    assert slowest < SLOWEST_SECONDS
    await call()
    assert resident_bytes(os.getpid()) - memory < MOST_KEPT_BYTES
    await until(lambda: open_files() <= files + MOST_KEPT_FILES)
