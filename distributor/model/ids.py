"""Command ids: UUIDv7 (RFC 9562, section 5.7), which sort by creation time.

The 12 bits after the version are a counter within the millisecond (section 6.2, method 1), so ids from one
process sort in order of creation. The last 12 bits are the bucket of the agent (`model/shards.py`). Time and randomness
are arguments.
"""

from __future__ import annotations

from typing import Final

from distributor.model.shards import BUCKET_BITS, BUCKETS

RANDOM_BITS: Final = 62 - BUCKET_BITS
_COUNTER_BITS: Final = 12


class CommandIdMint:
    """Generates command ids. Not thread-safe."""

    def __init__(self) -> None:
        self._last = -1

    def mint(self, now_ms: int, random: int, bucket: int = 0, tag: str = "") -> str:
        """Return the next id, whose UUID is always greater than the last, even if the clock stands still or goes back.

        Takes the lowest RANDOM_BITS of `random`. `tag` is that of the shard, with which the id begins.
        """
        self._last = max(self._last + 1, now_ms << _COUNTER_BITS)
        head = self._last
        value = (
            (head >> _COUNTER_BITS) << 80
            | 0x7 << 76
            | (head & 0xFFF) << 64
            | 0b10 << 62
            | (random & ((1 << RANDOM_BITS) - 1)) << BUCKET_BITS
            | bucket & (BUCKETS - 1)
        )
        text = f"{value:032x}"
        return f"{tag}{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
