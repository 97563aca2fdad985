"""Positions in the event stream: the ids that Valkey gives to its entries, milliseconds and a number."""

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
