"""Many deadlines with one timer: most work ends long before its deadline."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)


class Timeouts(Generic[Item]):
    """Calls `expire` with each item whose deadline passes before it is discarded, once and without delay.

    Deadlines are times of `loop`. The timer runs until the earliest deadline since it last fired, even if that item has
    been discarded. So adding and discarding touch it only if a deadline is earlier than all before.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, expire: Callable[[Item], None]) -> None:
        self._loop = loop
        self._expire = expire
        self._deadlines: dict[Item, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = math.inf

    @property
    def items(self) -> Collection[Item]:
        """The items whose deadlines have not passed, oldest first."""
        return self._deadlines.keys()

    def add(self, item: Item, deadline: float) -> None:
        """Expire `item` at `deadline`."""
        self._deadlines[item] = deadline
        if deadline < self._fires_at:
            self._fire_at(deadline)

    def discard(self, item: Item) -> None:
        """Do not expire `item`."""
        self._deadlines.pop(item, None)

    def close(self) -> None:
        """Expire nothing more."""
        self._deadlines.clear()
        self._stop_timer()

    def _fire_at(self, deadline: float) -> None:
        self._stop_timer()
        self._fires_at = deadline
        self._timer = self._loop.call_at(deadline, self._look, deadline)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._fires_at = None, math.inf

    def _look(self, now: float) -> None:
        self._stop_timer()
        passed = [item for item, deadline in self._deadlines.items() if deadline <= now]
        later = [deadline for deadline in self._deadlines.values() if deadline > now]
        if later:
            self._fire_at(min(later))
        for item in passed:
            # Unless an item before it has discarded it.
            if self._deadlines.pop(item, None) is not None:
                self._expire(item)
