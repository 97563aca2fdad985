from __future__ import annotations

import asyncio
import threading

import pytest

from distributor.testing.loop_thread import LoopThread


async def current_thread() -> str:
    return threading.current_thread().name


async def fail() -> None:
    raise ValueError("no")


async def test_coroutines_run_elsewhere_and_their_errors_come_back() -> None:
    loop = LoopThread()
    assert loop.run(current_thread()) == "distributor testing"
    assert await asyncio.wrap_future(loop.submit(current_thread())) == "distributor testing"
    with pytest.raises(ValueError, match="no"):
        loop.run(fail())
    loop.close()
