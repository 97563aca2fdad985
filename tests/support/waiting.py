"""Bounded waits for what nobody announces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

PATIENCE_SECONDS: Final = 10.0


async def until(condition: Callable[[], object]) -> None:
    """Return once `condition` is true."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.001)
