"""What each of many peers uses: those with open streams, and the ones seen most recently."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Usage = TypeVar("Usage")


class RecentPeers(Generic[Usage]):
    """One value per peer. Remembers every peer with an open stream, and at most `most` others. Not thread-safe."""

    def __init__(self, make: Callable[[], Usage], most: int) -> None:
        """`make` returns the value of a peer that is not remembered."""
        self._make = make
        self._most = most
        self._streams: Counter[str] = Counter()
        self._busy: dict[str, Usage] = {}
        self._idle: OrderedDict[str, Usage] = OrderedDict()

    def __len__(self) -> int:
        return len(self._busy) + len(self._idle)

    def of(self, peer: str) -> Usage:
        """The value of a peer, which is now the one seen last."""
        if peer in self._busy:
            return self._busy[peer]
        usage = self._taken(peer)
        self._remember(peer, usage)
        return usage

    def streams(self, peer: str) -> int:
        """How many streams of a peer are open."""
        return self._streams[peer]

    @contextmanager
    def stream(self, peer: str) -> Iterator[None]:
        """Count a stream of a peer while the block lasts."""
        if not self._streams[peer]:
            self._busy[peer] = self._taken(peer)
        self._streams[peer] += 1
        try:
            yield
        finally:
            self._streams[peer] -= 1
            if not self._streams[peer]:
                del self._streams[peer]
                self._remember(peer, self._busy.pop(peer))

    def _taken(self, peer: str) -> Usage:
        return self._idle.pop(peer) if peer in self._idle else self._make()

    def _remember(self, peer: str, usage: Usage) -> None:
        self._idle[peer] = usage
        if len(self._idle) > self._most:
            self._idle.popitem(last=False)
