"""The checkpoints of the server's audit trail that this agent remembers: a witness outside of the server. No I/O.

The journal has them, so that they outlive the process. An agent that remembers more of the trail than there is shows
that its end was cut off.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

MAX_KEPT: Final = 5
"""One for each trail that was seen; the oldest goes first."""
MAX_CHARACTERS: Final = 1_024
_FORM: Final = re.compile(r"([!-~]{1,100})\n([0-9]{1,16})\n[!-~]+\n\n— [!-~]+ [!-~]+\n")


class RememberedCheckpoints:
    """The longest checkpoint of each trail, in the order in which they came. Not thread-safe."""

    def __init__(self) -> None:
        self._kept: dict[str, str] = {}
        """By the name of the trail."""
        self._changed = False

    @property
    def newest(self) -> str:
        """The one of the trail that was seen last; "" if there is none."""
        return next(reversed(self._kept.values()), "")

    @property
    def all(self) -> tuple[str, ...]:
        """All that are remembered, the newest last."""
        return tuple(self._kept.values())

    def restore(self, checkpoints: Iterable[str]) -> None:
        """Put back what an earlier process of this agent remembered."""
        for text in checkpoints:
            self.remember(text)
        self._changed = False

    def remember(self, text: str) -> bool:
        """Remember a checkpoint, unless one of the same trail is as long. Return whether it was new."""
        found = _FORM.fullmatch(text) if len(text) <= MAX_CHARACTERS else None
        if found is None:
            return False
        origin, size = found[1], int(found[2])
        known = self._kept.get(origin)
        if known is not None and size <= _size_of(known):
            return False
        self._kept.pop(origin, None)
        self._kept[origin] = text
        if len(self._kept) > MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        self._changed = True
        return True

    def take(self) -> tuple[str, ...] | None:
        """What to write to the journal; None if that has it all."""
        changed, self._changed = self._changed, False
        return self.all if changed else None

    def failed(self) -> None:
        """What was taken last was not written; it comes again with the next."""
        self._changed = True


def _size_of(text: str) -> int:
    return int(text.split("\n", 2)[1])
