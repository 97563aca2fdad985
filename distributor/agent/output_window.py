"""The bounded, resendable buffer of one command's output on its way to the server.

Handlers write from other threads while the connection sends, so each method briefly holds the window's lock.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from distributor.v1 import command_pb2

COALESCE_BYTES: Final = 10_240
MAX_CHUNKS: Final = 1_024
"""Bounds the overhead of many tiny chunks of alternating streams."""


class Chunk(NamedTuple):
    """A piece of output; `offset` counts over both streams in the order written."""

    stream: command_pb2.OutputStream.ValueType
    offset: int
    data: bytes

    @property
    def end(self) -> int:
        """The offset after its last byte."""
        return self.offset + len(self.data)


class OutputWindow:
    """Keeps unacknowledged output, so that a new stream can resend it.

    acknowledged ≤ sent ≤ written; all bytes from `acknowledged` to `written` are held. If the server refuses output
    under the current lease, nothing is sent until `rewind()`; if it will never accept any, output is discarded.
    """

    def __init__(self) -> None:
        self.acknowledged = 0
        self.written = 0
        self._chunks: deque[Chunk] = deque()
        self._sent_chunks = 0
        self._journalled = 0
        """All output before this offset was given to the journal, or acknowledged before it had to be."""
        self._closed = False
        self._suspended = False
        self._discarding = False
        self._lock = threading.RLock()

    @property
    def unsent(self) -> bool:
        """Whether there is output to send."""
        return self._sent_chunks < len(self._chunks) and not self._suspended

    def room(self, limit: int) -> int:
        """Number of bytes that may be written without exceeding `limit` unacknowledged bytes."""
        if len(self._chunks) >= MAX_CHUNKS:
            return 0
        return max(0, limit - (self.written - self.acknowledged))

    def sendable(self, limit: int) -> int:
        """Number of bytes that may be sent without exceeding `limit` unacknowledged bytes."""
        with self._lock:
            first = self._chunks[self._sent_chunks].offset if self._sent_chunks < len(self._chunks) else self.written
            return max(0, limit - (first - self.acknowledged))

    def suspend(self) -> None:
        """Send nothing more under this lease. Output is kept for the next one."""
        with self._lock:
            self._suspended = True

    def discard(self) -> None:
        """Discard all output, present and future."""
        with self._lock:
            self._discarding = True
            self._acknowledge(self.written)

    def close(self) -> None:
        """Accept no more output."""
        with self._lock:
            self._closed = True

    def write(self, stream: command_pb2.OutputStream.ValueType, data: memoryview, limit: int) -> int:
        """Add as much of `data` as there is room for; return how much. Raises ValueError once closed."""
        with self._lock:
            if self._closed:
                raise ValueError("the window is closed")
            taken = bytes(data[: self.room(limit)])
            if taken:
                self.append(stream, taken)
            return len(taken)

    def append(self, stream: command_pb2.OutputStream.ValueType, data: bytes) -> None:
        """Add output, merging small adjacent unsent pieces of one stream into one chunk."""
        with self._lock:
            self._append(stream, data)

    def _append(self, stream: command_pb2.OutputStream.ValueType, data: bytes) -> None:
        if self._discarding:
            self.written += len(data)
            self.acknowledged = self.written
            return
        last = self._chunks[-1] if self._sent_chunks < len(self._chunks) else None
        if last and last.stream == stream and len(last.data) + len(data) <= COALESCE_BYTES:
            self._chunks[-1] = Chunk(stream, last.offset, last.data + data)
        else:
            self._chunks.append(Chunk(stream, self.written, data))
        self.written += len(data)

    def take(self, most: int) -> Chunk | None:
        """Take the next chunk to send, at most `most` bytes, or None. It is kept until acknowledged."""
        with self._lock:
            return self._take(most)

    def _take(self, most: int) -> Chunk | None:
        if not self.unsent or most <= 0:
            return None
        chunk = self._chunks[self._sent_chunks]
        if len(chunk.data) > most:
            rest = Chunk(chunk.stream, chunk.offset + most, chunk.data[most:])
            chunk = Chunk(chunk.stream, chunk.offset, chunk.data[:most])
            self._chunks[self._sent_chunks] = chunk
            self._chunks.insert(self._sent_chunks + 1, rest)
        self._sent_chunks += 1
        return chunk

    def acknowledge(self, offset: int) -> None:
        """Drop output before `offset`. Ignores offsets already acknowledged or never written."""
        with self._lock:
            self._acknowledge(offset)

    def _acknowledge(self, offset: int) -> None:
        if not self.acknowledged < offset <= self.written:
            return
        self.acknowledged = offset
        while self._chunks and self._chunks[0].end <= offset:
            self._chunks.popleft()
            self._sent_chunks = max(0, self._sent_chunks - 1)
        if self._chunks and self._chunks[0].offset < offset:
            cut = self._chunks[0]
            self._chunks[0] = Chunk(cut.stream, offset, cut.data[offset - cut.offset :])

    def rewind(self, offset: int) -> None:
        """Prepare a new stream: the server has everything before `offset`; resend the rest.

        Output acknowledged earlier is gone, even if the server asks for it.
        """
        with self._lock:
            self._acknowledge(offset)
            self._sent_chunks = 0
            self._suspended = False

    # Journal

    def unjournalled(self, before: int) -> list[Chunk]:
        """Take the unacknowledged output before offset `before` that was not taken yet, for the journal."""
        with self._lock:
            begin = max(self._journalled, self.acknowledged)
            if before <= begin:
                return []
            self._journalled = before
            return [
                _part(chunk, begin, before) for chunk in self._chunks if chunk.end > begin and chunk.offset < before
            ]

    @property
    def has_unjournalled(self) -> bool:
        """Whether there is unacknowledged output that the journal was not given."""
        return self.written > max(self._journalled, self.acknowledged)

    def not_journalled(self, offset: int) -> None:
        """The journal could not write output from `offset` on: give it again."""
        with self._lock:
            self._journalled = min(self._journalled, offset)

    def restore(self, chunks: Sequence[Chunk], end: int) -> None:
        """Hold what the journal of an earlier process held, in order; `end` is how much it had written at least.

        Of output with a gap the part after it counts: the rest was acknowledged, or the journal would have it.
        """
        with self._lock:
            first = len(chunks)
            while first > 0 and (first == len(chunks) or chunks[first - 1].end == chunks[first].offset):
                first -= 1
            self._chunks = deque(chunks[first:])
            self.written = max(end, self._chunks[-1].end if self._chunks else 0)
            self.acknowledged = self._chunks[0].offset if self._chunks else self.written
            self._journalled = self.written
            self._closed = True

    def advance(self, offset: int) -> None:
        """The server has output up to `offset`, which the journal did not hold when the process ended."""
        with self._lock:
            if offset > self.written:
                self._chunks.clear()
                self._sent_chunks = 0
                self.acknowledged = self.written = self._journalled = offset


def _part(chunk: Chunk, begin: int, end: int) -> Chunk:
    """The part of `chunk` between two offsets."""
    first = max(begin, chunk.offset)
    return Chunk(chunk.stream, first, chunk.data[first - chunk.offset : end - chunk.offset])
