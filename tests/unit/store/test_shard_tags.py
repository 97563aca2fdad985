from __future__ import annotations

import re

import pytest

from distributor.model.command import check_command_id
from distributor.model.ids import CommandIdMint
from distributor.model.shards import MAX_SHARDS, Shards
from distributor.store import keys
from distributor.store.shard_tags import SLOTS, shard_tags, slot_of


@pytest.mark.parametrize("count", [1, 2, 3, 16, 64, MAX_SHARDS])
@pytest.mark.parametrize("primaries", [1, 2, 3, 5])
def test_primaries_serve_as_many_shards_as_others(count: int, primaries: int) -> None:
    served = [0] * primaries
    for tag in shard_tags(count):
        served[slot_of(tag) * primaries // SLOTS] += 1
    assert max(served) - min(served) <= 1, served
    assert len(Shards(shard_tags(count))) == count


def test_tags_are_those_that_names_were_made_with() -> None:
    """Another choice would lose what is stored."""
    assert shard_tags(4) == ("{96e}", "{3db}", "{bfa}", "{0cd}")


@pytest.mark.parametrize("tag", shard_tags(16))
def test_all_names_of_a_command_and_its_shard_share_a_slot(tag: str) -> None:
    assert re.fullmatch(r"\{[0-9a-f]{3}\}", tag)
    command_id = CommandIdMint().mint(1, 2, 3, tag)
    check_command_id(command_id)
    names = [
        keys.of_command(template, command_id, tag, agent_id="press-7")
        for template in (keys.COMMAND, keys.STATUS, keys.AGENT_COMMAND, keys.RESULT)
    ]
    assert {slot_of(name) for name in (*names, keys.in_shard(keys.EVENTS, tag))} == {slot_of(tag)}
    assert names[0] == f"command:queue:{command_id}"
