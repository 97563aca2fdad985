"""Where code runs, for tests of what must not block an event loop."""

from __future__ import annotations

import asyncio


def on_loop() -> bool:
    """Whether the caller runs on an event loop, not in another thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
