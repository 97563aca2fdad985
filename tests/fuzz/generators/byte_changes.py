"""Changes bytes at random: flips, cuts, repeats, and lengths that lie."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

MOST_CHANGES: Final = 4
MOST_REPEATS: Final = 64
MOST_BYTES: Final = 4 << 20
"""Below what a channel sends."""
LYING_LENGTHS: Final = (b"\xff" * 9 + b"\x01", b"\xff\xff\xff\xff\x07", b"\x80" * 12, b"\x00", b"\x7f")
"""Varints: 2^64 - 1, 2^31 - 1, one without an end, and two that are too small."""

Change = Callable[[Random, bytes], bytes]


def changed(rng: Random, data: bytes) -> bytes:
    """Return `data` after one to MOST_CHANGES random changes."""
    for _ in range(rng.randint(1, MOST_CHANGES)):
        data = rng.choice(_CHANGES)(rng, data)[:MOST_BYTES]
    return data


def random_bytes(rng: Random, most: int) -> bytes:
    """Return up to `most` random bytes, short ones as often as long ones."""
    return rng.randbytes(rng.randint(0, 1 << rng.randint(0, max(0, most.bit_length() - 1))))


def _place(rng: Random, data: bytes) -> int:
    return rng.randint(0, len(data))


def _flip(rng: Random, data: bytes) -> bytes:
    if not data:
        return b"\x01"
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def _cut(rng: Random, data: bytes) -> bytes:
    return data[: _place(rng, data)]


def _remove(rng: Random, data: bytes) -> bytes:
    first, last = sorted((_place(rng, data), _place(rng, data)))
    return data[:first] + data[last:]


def _repeat(rng: Random, data: bytes) -> bytes:
    first, last = sorted((_place(rng, data), _place(rng, data)))
    return data[:last] + data[first:last] * rng.randint(1, MOST_REPEATS) + data[last:]


def _insert(rng: Random, data: bytes) -> bytes:
    place = _place(rng, data)
    return data[:place] + random_bytes(rng, 64) + data[place:]


def _lie(rng: Random, data: bytes) -> bytes:
    place = _place(rng, data)
    return data[:place] + rng.choice(LYING_LENGTHS) + data[place + 1 :]


_CHANGES: Final[tuple[Change, ...]] = (_flip, _cut, _remove, _repeat, _insert, _lie)
