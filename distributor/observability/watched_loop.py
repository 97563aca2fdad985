"""An event loop that says when it wakes, so that a watchdog can sleep as long as the loop does."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable


class WakingSelector(selectors.DefaultSelector):
    """Calls `on_wake`, if set, each time that its loop has slept or looked for events."""

    def __init__(self) -> None:
        super().__init__()
        self.on_wake: Callable[[], object] | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for events, as every selector does."""
        events = super().select(timeout)
        if self.on_wake is not None:
            self.on_wake()
        return events


class WatchedLoop(asyncio.SelectorEventLoop):
    """asyncio's loop, on a WakingSelector."""

    def __init__(self) -> None:
        self.waking = WakingSelector()
        super().__init__(self.waking)
