"""Shards: parts of the key space, each in one slot of a Valkey Cluster. An agent's shard has all that is the agent's.

Each agent has a bucket, 0 to 4095, for good, and each shard serves a range of buckets. A command id ends with the
bucket of its agent, so the shard of a command is known from its id alone, whatever the number of shards was when it was
minted.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeVar

Item = TypeVar("Item")

BUCKET_BITS: Final = 12
BUCKETS: Final = 1 << BUCKET_BITS
MAX_SHARDS: Final = 256


def bucket_of(agent_id: str) -> int:
    """The bucket of an agent. Never changes: ids have been minted with it."""
    return zlib.crc32(agent_id.encode()) >> (32 - BUCKET_BITS)


class Shards:
    """The shards of one store, by their tags: hash tags such as `{07f}`, or "" for the only shard without one."""

    def __init__(self, tags: Sequence[str] = ("",)) -> None:
        """Raises ValueError for no tags, for too many, and for repeated ones."""
        if not 1 <= len(tags) <= MAX_SHARDS or len(set(tags)) != len(tags):
            raise ValueError(f"shards need 1 to {MAX_SHARDS} different tags, not {tags!r}")
        self.tags = tuple(tags)

    def __len__(self) -> int:
        return len(self.tags)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shards) and self.tags == other.tags

    def __hash__(self) -> int:
        return hash(self.tags)

    @property
    def home(self) -> str:
        """The shard of what belongs to no agent."""
        return self.tags[0]

    def of_bucket(self, bucket: int) -> str:
        """The shard that serves a bucket."""
        return self.tags[bucket * len(self.tags) >> BUCKET_BITS]

    def of_agent(self, agent_id: str) -> str:
        """The shard of an agent."""
        return self.tags[0] if len(self.tags) == 1 else self.of_bucket(bucket_of(agent_id))

    def of_command(self, command_id: str) -> str:
        """The shard of a command. What is not a command id has a shard, too, in which nothing has this id."""
        if len(self.tags) == 1:
            return self.tags[0]
        try:
            return self.of_bucket(int(command_id[-BUCKET_BITS // 4 :], 16))
        except ValueError:
            return self.tags[0]

    def grouped(self, items: Iterable[Item], shard_of: Callable[[Item], str]) -> Mapping[str, Sequence[int]]:
        """The numbers of the items of each shard, in order: items of one shard succeed or fail together."""
        groups: dict[str, list[int]] = {}
        for number, item in enumerate(items):
            groups.setdefault(shard_of(item), []).append(number)
        return groups


ONE_SHARD: Final = Shards()
"""The only shard of a store that is not divided; its names have no tag."""
