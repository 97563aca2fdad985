"""Where in the event stream something stands: the millisecond by the store's clock, a dash, and a number within it."""

from __future__ import annotations

import re
from typing import Final

BEGINNING: Final = "0-0"
"""Before every event."""
_POSITION: Final = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")


def is_position(text: str) -> bool:
    """Whether `text`, from wherever, can be a position."""
    return _POSITION.fullmatch(text) is not None


def order_of(position: str) -> tuple[int, int]:
    """What positions are compared by."""
    milliseconds, _, number = position.partition("-")
    return int(milliseconds), int(number)


def milliseconds_of(position: str) -> int:
    """When the event was written, by the store's clock."""
    return int(position.partition("-")[0])
