"""Handles SIGTERM and SIGINT in a process that drains before it ends."""

from __future__ import annotations

import asyncio
import os
import signal

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """The first signal requests a stop, the second ends the process at once. Enter it on the loop's thread."""

    def __init__(self) -> None:
        self._requested = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> StopSignals:
        for number in SIGNALS:
            self._loop.add_signal_handler(number, self._on_signal, number)
        return self

    def __exit__(self, *_: object) -> None:
        for number in SIGNALS:
            self._loop.remove_signal_handler(number)

    async def wait(self) -> None:
        """Wait for the first signal."""
        await self._requested.wait()

    def _on_signal(self, number: signal.Signals) -> None:
        if self._requested.is_set():
            # Skip cleanup: the second signal asks for an immediate end.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._requested.set()
