"""The Merkle tree of RFC 6962 over a growing list, kept as the roots of its complete subtrees."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

HASH_BYTES: Final = 32
_LEAF: Final = b"\0"
_NODE: Final = b"\1"


class MerkleTree:
    """Appends leaves and gives the root; keeps at most 64 hashes however many leaves there are."""

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        """Continue a tree of `size` leaves. Raises ValueError if the number of hashes does not fit that size."""
        if len(hashes) != size.bit_count() or any(len(one) != HASH_BYTES for one in hashes):
            raise ValueError("the hashes do not fit the size")
        self.size = size
        self._hashes = list(hashes)

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """The roots of the complete subtrees, from the largest to the smallest."""
        return tuple(self._hashes)

    def append(self, leaf: bytes) -> None:
        """Add a leaf at the end."""
        node = hashlib.sha256(_LEAF + leaf).digest()
        complete = self.size
        while complete & 1:
            node = hashlib.sha256(_NODE + self._hashes.pop() + node).digest()
            complete >>= 1
        self._hashes.append(node)
        self.size += 1

    def root(self) -> bytes:
        """The root, 32 bytes."""
        if not self._hashes:
            return hashlib.sha256(b"").digest()
        root = self._hashes[-1]
        for left in reversed(self._hashes[:-1]):
            root = hashlib.sha256(_NODE + left + root).digest()
        return root

    def copy(self) -> MerkleTree:
        """A tree that grows apart from this one."""
        return MerkleTree(self.size, self._hashes)
