from __future__ import annotations

import asyncio
import os
import signal

import pytest

from distributor.cli.serving import first_of, is_loopback
from distributor.cli.signals import StopSignals
from tests.support.waiting import PATIENCE_SECONDS


@pytest.mark.parametrize(
    ("address", "only_here"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("192.168.1.7:1", False),
        ("example.org:1", False),
    ],
)
def test_who_can_reach_an_address(address: str, only_here: bool) -> None:
    assert is_loopback(address) == only_here


async def forever(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("ended")


async def at_once() -> None:
    pass


async def failing() -> None:
    raise RuntimeError("a loop failed")


async def test_the_first_to_end_ends_the_others() -> None:
    ended: list[str] = []
    assert await first_of(forever(ended), at_once(), forever(ended)) == 1
    assert len(ended) <= 2


async def test_a_failure_of_any_is_raised() -> None:
    with pytest.raises(RuntimeError, match="a loop failed"):
        await first_of(forever([]), failing())


async def test_being_cancelled_ends_all() -> None:
    ended: list[str] = []
    waiting = asyncio.create_task(first_of(forever(ended), forever(ended)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert len(ended) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_asks_to_stop(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopSignals() as signals:
        waiting = asyncio.create_task(signals.wait())
        os.kill(os.getpid(), number)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await waiting
    # Whoever handled signals before handles them again.
    assert signal.getsignal(number) in (before, signal.default_int_handler, signal.SIG_DFL)
