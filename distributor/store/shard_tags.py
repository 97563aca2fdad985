"""The tags of shards: spread over the slots of a cluster, so that its primaries share them evenly."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from valkey.crc import VALKEY_CLUSTER_HASH_SLOTS, key_slot

SLOTS: Final = VALKEY_CLUSTER_HASH_SLOTS
_TAG_DIGITS: Final = 3


def slot_of(tag: str) -> int:
    """The slot of all names that begin with a tag, or have it as their first text in braces."""
    return int(key_slot(tag.encode()))


@lru_cache
def shard_tags(count: int) -> tuple[str, ...]:
    """The tags of `count` shards, such as `{07f}`: for each, the one whose slot is nearest to the middle of its part.

    Primaries usually serve ranges of slots, so each serves nearly as many shards as the others. A pure function of
    `count`: all processes know the same tags.
    """
    slots = {tag: slot_of(tag) for tag in (f"{{{number:0{_TAG_DIGITS}x}}}" for number in range(16**_TAG_DIGITS))}
    tags: list[str] = []
    for number in range(count):
        middle = (2 * number + 1) * SLOTS // (2 * count)
        tags.append(min(slots, key=lambda tag: (abs(slots[tag] - middle), tag)))
        del slots[tags[-1]]
    return tuple(tags)
