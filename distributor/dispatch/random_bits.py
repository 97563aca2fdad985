"""Random bits for ids, asked of the system in blocks: each request costs a system call."""

from __future__ import annotations

import secrets
from typing import Final

BLOCK_BYTES: Final = 512


class RandomBits:
    """An unpredictable source of 64 bits at a time."""

    def __init__(self) -> None:
        self._block = b""

    def take(self) -> int:
        """64 random bits."""
        if not self._block:
            self._block = secrets.token_bytes(BLOCK_BYTES)
        bits, self._block = self._block[-8:], self._block[:-8]
        return int.from_bytes(bits, "big")
