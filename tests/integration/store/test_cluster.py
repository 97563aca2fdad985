"""A cluster whose primaries are killed and whose slots move, as the callers of a store see it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from distributor.errors import DistributorError, Unavailable
from distributor.model.queueing import Enqueued, QueueOutcome
from distributor.settings.store_address import store_address
from distributor.store.cluster_connections import ClusterConnections
from distributor.store.shard_tags import shard_tags, slot_of
from tests.support.queueing_load import Load, lost
from tests.support.store_world import StoreWorld
from tests.support.valkey_cluster import PATIENT_MS, ClusterNode, ValkeyCluster
from tests.support.waiting import eventually

TAG = shard_tags(16)[7]
SLOT = slot_of(TAG)


@pytest.fixture
async def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[ValkeyCluster]:
    """A cluster of the test's own, with a parameter of how soon a node is taken for dead."""
    async with ValkeyCluster(tmp_path, getattr(request, "param", PATIENT_MS)) as cluster:
        yield cluster


@pytest.fixture
async def world(cluster: ValkeyCluster) -> AsyncIterator[StoreWorld]:
    """The stores of one shard."""
    connections = ClusterConnections(store_address(cluster.url))
    await connections.open()
    try:
        yield StoreWorld(connections.of_shard(TAG), shard=TAG)
    finally:
        await connections.close()


async def target_for(cluster: ValkeyCluster, owner: ClusterNode) -> ClusterNode:
    """A primary that does not serve the slot."""
    return next(node for node in cluster.primaries if node is not owner)


async def test_a_slot_that_moves_under_load_costs_no_command(cluster: ValkeyCluster, world: StoreWorld) -> None:
    """Twice: to another primary and back. Callers see at most that they may try again."""
    load = Load(world)
    await load.grown(50)
    for _ in range(2):
        owner = await cluster.owner(SLOT)
        target = await target_for(cluster, owner)
        await owner.call("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", SLOT, SLOT, "NODE", await target.id())

        async def arrived(target: ClusterNode = target) -> bool:
            return await cluster.owner(SLOT) is target

        await eventually(arrived)
        await load.grown(50)
    await load.stop()
    assert await lost(world, load.acknowledged) == []
    assert len(await world.events()) == len(load.acknowledged), "each was queued once, and no event is missing"


@pytest.mark.parametrize("cluster", [1_000], indirect=True)
async def test_a_primary_that_is_killed_is_replaced_by_its_replica(cluster: ValkeyCluster, world: StoreWorld) -> None:
    load = Load(world)
    await load.grown(50)
    owner = await cluster.owner(SLOT)
    replica = cluster.replicas[list(cluster.primaries).index(owner)]
    await owner.call("WAIT", 1, 10_000)
    acknowledged = list(load.acknowledged)
    await owner.kill()
    await eventually(replica.is_primary)
    await load.grown(50)
    await load.stop()
    assert await lost(world, acknowledged) == []
    assert load.failures, "the time without a primary was noticed"
    assert all(failure.retry_after_seconds for failure in load.failures)


async def test_while_keys_move_one_by_one_calls_are_refused_and_change_nothing(
    cluster: ValkeyCluster, world: StoreWorld
) -> None:
    """As `valkey-cli --cluster reshard` moves them: a function would find some keys here and some there."""
    known = await world.queued()
    owner = await cluster.owner(SLOT)
    target = await target_for(cluster, owner)
    await target.call("CLUSTER", "SETSLOT", SLOT, "IMPORTING", await owner.id())
    await owner.call("CLUSTER", "SETSLOT", SLOT, "MIGRATING", await target.id())
    before = await owner.call("DBSIZE")
    new = world.new()
    with pytest.raises(Unavailable, match="moving to another node"):
        await world.enqueue(new)
    with pytest.raises(Unavailable, match="moving to another node"):
        await world.details(known)
    assert await owner.call("DBSIZE") == before
    await owner.call("CLUSTER", "SETSLOT", SLOT, "STABLE")
    await target.call("CLUSTER", "SETSLOT", SLOT, "STABLE")
    (answer,) = await world.enqueue(new)
    assert answer.outcome is QueueOutcome.QUEUED


async def test_one_shard_whose_nodes_are_away_leaves_the_others_alone(cluster: ValkeyCluster, tmp_path: Path) -> None:
    connections = ClusterConnections(store_address(cluster.url))
    await connections.open()
    worlds = {tag: StoreWorld(connections.of_shard(tag), shard=tag) for tag in shard_tags(3)}
    try:
        away, *others = worlds
        owner = await cluster.owner(slot_of(away))
        await cluster.replicas[list(cluster.primaries).index(owner)].kill()
        await owner.kill()
        outcomes: dict[str, list[Enqueued] | DistributorError] = {}
        for tag, world in worlds.items():
            try:
                outcomes[tag] = await world.enqueue(world.new())
            except DistributorError as error:
                outcomes[tag] = error
        assert isinstance(outcomes[away], Unavailable)
        for tag in others:
            assert isinstance(outcomes[tag], list), outcomes
    finally:
        await connections.close()


async def test_a_cluster_that_is_not_there(tmp_path: Path) -> None:
    connections = ClusterConnections(store_address("valkey+cluster://127.0.0.1:1,127.0.0.1:2"))
    with pytest.raises(Unavailable, match="no node of the cluster answers"):
        await connections.open()
    await connections.close()
