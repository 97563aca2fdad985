from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.model.ids import CommandIdMint
from distributor.model.shards import BUCKETS, MAX_SHARDS, ONE_SHARD, Shards, bucket_of

TAGS = st.integers(1, MAX_SHARDS).map(lambda count: Shards([f"{{{number:03x}}}" for number in range(count)]))
AGENTS = st.text(min_size=1, max_size=128)


def test_the_bucket_of_an_agent_is_for_good() -> None:
    """Ids that exist end with it."""
    assert [bucket_of(agent_id) for agent_id in ("agent123", "web-1", "web-2", "é")] == [3489, 3000, 552, 224]


@given(TAGS, AGENTS)
def test_the_id_of_a_command_leads_to_the_shard_of_its_agent(shards: Shards, agent_id: str) -> None:
    tag = shards.of_agent(agent_id)
    command_id = CommandIdMint().mint(1, 2, bucket_of(agent_id), tag)
    assert shards.of_command(command_id) == tag


@given(TAGS, TAGS, AGENTS)
def test_also_after_the_store_was_divided_otherwise(before: Shards, after: Shards, agent_id: str) -> None:
    command_id = CommandIdMint().mint(1, 2, bucket_of(agent_id), before.of_agent(agent_id))
    assert after.of_command(command_id) == after.of_agent(agent_id)
    assert ONE_SHARD.of_command(command_id) == ""


@given(TAGS)
def test_every_shard_serves_a_range_of_buckets_and_none_much_more_than_others(shards: Shards) -> None:
    served = [shards.of_bucket(bucket) for bucket in range(BUCKETS)]
    assert list(dict.fromkeys(served)) == list(shards.tags)
    sizes = [served.count(tag) for tag in shards.tags]
    assert max(sizes) - min(sizes) <= 1


@given(TAGS, st.text())
def test_what_is_no_id_has_a_shard(shards: Shards, text: str) -> None:
    assert shards.of_command(text) in shards.tags


def test_agents_spread_evenly() -> None:
    shards = Shards([f"{{{number}}}" for number in range(16)])
    counts = dict.fromkeys(shards.tags, 0)
    for number in range(16_000):
        counts[shards.of_agent(f"web-{number:05}")] += 1
    assert max(counts.values()) < 1_150, counts
    assert min(counts.values()) > 850, counts


@pytest.mark.parametrize("tags", [[], ["{1}", "{1}"], [f"{{{number}}}" for number in range(MAX_SHARDS + 1)]])
def test_impossible_shards(tags: list[str]) -> None:
    with pytest.raises(ValueError, match="shards need"):
        Shards(tags)


def test_items_are_grouped_by_shard_in_their_order() -> None:
    shards = Shards(["{a}", "{b}"])
    agents = ["agent123", "web-1", "web-2", "agent123"]
    groups = shards.grouped(agents, shards.of_agent)
    assert groups == {"{b}": [0, 1, 3], "{a}": [2]}
