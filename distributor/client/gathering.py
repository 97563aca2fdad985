"""Decides which requests of concurrent callers travel together, and when. Does no I/O."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, TypeVar

Item = TypeVar("Item", bound=Hashable)


@dataclass(frozen=True, slots=True)
class GatheringLimits:
    """Bounds on groups. A group has at most `items` items and about `size_bytes` bytes; one larger item goes alone.

    At most `in_flight` groups are on their way. While fewer are, an item waits for the answer to another group for at
    most `patience_seconds`. With `enough` items, the cost of a call is small beside that of its items.
    """

    items: int = 250
    enough: int = 25
    size_bytes: int = 1_048_576
    in_flight: int = 4
    patience_seconds: float = 0.005


DEFAULT_LIMITS: Final = GatheringLimits()


class _Waiting(NamedTuple):
    size_bytes: int
    since: float
    alone: bool


class Gathering(Generic[Item]):
    """Gathers items into groups, in order, as Nagle's algorithm gathers bytes into segments (RFC 896).

    A group leaves at once if none is in flight or it is full; otherwise when one has been answered, or when its oldest
    item has waited for long enough. Two groups with enough items overlap: the server has one while callers work on the
    answers to the other, and then queue again. Times are seconds of any monotonic clock.
    """

    def __init__(self, limits: GatheringLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._waiting: OrderedDict[Item, _Waiting] = OrderedDict()
        self._waiting_bytes = 0
        self._in_flight = 0

    def add(self, item: Item, size_bytes: int, now: float, *, alone: bool = False) -> None:
        """Let `item` wait for its group; with `alone`, for a group of its own."""
        self._waiting[item] = _Waiting(size_bytes, now, alone)
        self._waiting_bytes += size_bytes

    def discard(self, item: Item) -> None:
        """Remove `item` if it still waits."""
        waiting = self._waiting.pop(item, None)
        if waiting is not None:
            self._waiting_bytes -= waiting.size_bytes

    def take_group(self, now: float) -> list[Item]:
        """Remove and return the next group that may leave now; an empty list if none may.

        Each group counts as in flight until `group_ended`.
        """
        if not self._may_leave(now):
            return []
        group: list[Item] = []
        size_bytes, most = 0, self._most_items()
        while self._waiting and len(group) < most:
            item, waiting = next(iter(self._waiting.items()))
            if group and (waiting.alone or size_bytes + waiting.size_bytes > self._limits.size_bytes):
                break
            self.discard(item)
            group.append(item)
            size_bytes += waiting.size_bytes
            if waiting.alone:
                break
        self._in_flight += 1
        return group

    def group_ended(self) -> None:
        """Note that a group is no longer in flight."""
        self._in_flight -= 1

    @property
    def leaves_at(self) -> float | None:
        """When the oldest item has waited for long enough; None if nothing waits, or only an answer can help."""
        if not self._waiting or self._in_flight >= self._limits.in_flight:
            return None
        return next(iter(self._waiting.values())).since + self._limits.patience_seconds

    def _may_leave(self, now: float) -> bool:
        leaves_at = self.leaves_at
        if leaves_at is None:
            return False
        waiting = len(self._waiting)
        full = waiting >= self._limits.items or self._waiting_bytes >= self._limits.size_bytes
        overlaps = self._in_flight == 1 and waiting >= self._limits.enough
        return not self._in_flight or overlaps or full or now >= leaves_at

    def _most_items(self) -> int:
        """The most items of the next group: half of those that wait, if they are enough for two groups."""
        waiting = len(self._waiting)
        if not self._in_flight and waiting >= 2 * self._limits.enough:
            return min(self._limits.items, math.ceil(waiting / 2))
        return self._limits.items
