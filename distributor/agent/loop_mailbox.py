"""Calls from other threads that share the wake-up of an event loop."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from contextlib import suppress


class LoopMailbox:
    """Makes calls on a loop, in order. Thread-safe.

    Waking a loop in another thread costs more than a short call. So only the first of several calls wakes it; those
    posted before the loop runs are made then as well. Calls run in the context in which the mailbox was created.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._context = contextvars.copy_context()
        self._calls: deque[Callable[[], object]] = deque()
        self._woken = False

    def post(self, call: Callable[[], object]) -> None:
        """Make `call` on the loop, soon. Does nothing once the loop is closed."""
        # Appended before the look at `_woken`, which the loop clears before it takes calls: none is left behind.
        self._calls.append(call)
        if not self._woken:
            self._wake()

    def _wake(self) -> None:
        self._woken = True
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._make_calls, context=self._context)

    def _make_calls(self) -> None:
        self._woken = False
        try:
            # Only those posted so far, so that busy threads do not keep the loop from its other work.
            for _ in range(len(self._calls)):
                self._calls.popleft()()
        finally:
            # If a call raised, the loop handles that first, and then makes the rest.
            if self._calls and not self._woken:
                self._wake()
