"""Positions in the event stream: milliseconds by the store's clock, a dash, and a sequence number."""

from __future__ import annotations

import re
from typing import Final

BEGINNING: Final = "0-0"
"""The position before every event."""
_POSITION: Final = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")


def is_position(text: str) -> bool:
    """Whether `text`, from an untrusted source, is a valid position."""
    return _POSITION.fullmatch(text) is not None


def order_of(position: str) -> tuple[int, int]:
    """Sort key of a position."""
    milliseconds, _, number = position.partition("-")
    return int(milliseconds), int(number)


def milliseconds_of(position: str) -> int:
    """When the event was written: milliseconds by the store's clock."""
    return int(position.partition("-")[0])
