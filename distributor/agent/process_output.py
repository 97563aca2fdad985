"""The output of a program, collected from its two pipes in the order read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from distributor.agent.command_context import OutputStreamName

FLUSH_BYTES: Final = 10_240
FLUSH_SECONDS: Final = 0.05
PAUSE_BYTES: Final = 65_536


class Piece(NamedTuple):
    """Bytes of one stream, exactly as printed."""

    stream: OutputStreamName
    data: bytes


class ProcessOutput:
    """A small buffer, flushed at 10 KiB or after 50 ms. The pipes are not read while it is full.

    The pipes then fill up and the program waits, so back-pressure reaches the program itself.
    """

    def __init__(self) -> None:
        self.on_pause: Callable[[bool], None] = lambda paused: None
        """Called with True to pause reading the pipes, and with False to resume."""
        self._pieces: list[Piece] = []
        self._size = 0
        self._paused = False
        self._closed = False
        self._any = asyncio.Event()
        self._enough = asyncio.Event()

    @property
    def empty(self) -> bool:
        """Whether everything was taken."""
        return not self._pieces

    def add(self, stream: OutputStreamName, data: bytes) -> None:
        """Add data read from a pipe."""
        if self._pieces and self._pieces[-1].stream == stream:
            self._pieces[-1] = Piece(stream, self._pieces[-1].data + data)
        else:
            self._pieces.append(Piece(stream, data))
        self._size += len(data)
        self._any.set()
        if self._size >= FLUSH_BYTES:
            self._enough.set()
        if self._size >= PAUSE_BYTES and not self._paused:
            self._paused = True
            self.on_pause(True)

    def close(self) -> None:
        """End the output."""
        self._closed = True
        self._any.set()
        self._enough.set()

    async def next(self) -> list[Piece]:
        """Wait for the next pieces: 10 KiB, or 50 ms after the first; empty at the end."""
        await self._any.wait()
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._enough.wait()
        except TimeoutError:
            pass
        pieces, self._pieces, self._size = self._pieces, [], 0
        if not self._closed:
            self._any.clear()
            self._enough.clear()
        if self._paused:
            self._paused = False
            self.on_pause(False)
        return pieces
