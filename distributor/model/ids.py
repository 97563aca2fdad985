"""Command ids: UUIDv7 (RFC 9562, section 5.7), so that ids sort by the time they were minted.

The 12 bits after the version count up within a millisecond (method 1 of section 6.2), so ids minted by one
process sort in the order of minting. Time and randomness are arguments.
"""

from __future__ import annotations

_COUNTER_BITS = 12


class CommandIdMint:
    """Makes ids. Not safe to share between threads."""

    def __init__(self) -> None:
        self._last = -1

    def mint(self, now_ms: int, random_62_bits: int) -> str:
        """The next id. It is greater than the one before, also when the clock stands still or goes back."""
        self._last = max(self._last + 1, now_ms << _COUNTER_BITS)
        head = self._last
        value = (
            (head >> _COUNTER_BITS) << 80
            | 0x7 << 76
            | (head & 0xFFF) << 64
            | 0b10 << 62
            | (random_62_bits & (1 << 62) - 1)
        )
        text = f"{value:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
