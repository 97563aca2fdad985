from __future__ import annotations

import asyncio
import os
import signal

import pytest

from distributor.app.signals import StopSignals
from tests.support.waiting import PATIENCE_SECONDS


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
