"""Ports called from outside the event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any


class Inside:
    """Calls the methods of a port inside the event loop: they take their place when they are called."""

    def __init__(self, port: Any) -> None:
        self._port = port

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any) -> Any:
            return await getattr(self._port, name)(*arguments)

        return call
