from __future__ import annotations

import asyncio
import os
import signal

import pytest

from distributor.cli.serving import is_loopback
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
