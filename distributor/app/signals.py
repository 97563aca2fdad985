"""What SIGTERM and Ctrl-C mean to a process that drains before it ends."""

from __future__ import annotations

import asyncio
import os
import signal

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """The first signal asks to stop, the second ends the process at once. Use as a context manager, on the loop."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> StopSignals:
        for number in SIGNALS:
            self._loop.add_signal_handler(number, self._on_signal, number)
        return self

    def __exit__(self, *_: object) -> None:
        for number in SIGNALS:
            self._loop.remove_signal_handler(number)

    async def wait(self) -> None:
        """Return once asked to stop."""
        await self._asked.wait()

    def _on_signal(self, number: signal.Signals) -> None:
        if self._asked.is_set():
            # Whoever asks twice does not want to wait for anything that we might still tidy up.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._asked.set()
