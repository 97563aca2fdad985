from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from distributor.settings.store_address import store_address
from distributor.store.cluster_connections import ClusterConnections
from distributor.store.connections import StoreConnections
from distributor.store.shard_tags import shard_tags
from distributor.store.valkey_connection import ValkeyConnection
from tests.support.limited_user import limited_to
from tests.support.store_world import StoreWorld
from tests.support.valkey_cluster import ValkeyCluster

TAG: Final = shard_tags(16)[7]
OWN_WORLD: Final = frozenset({"test_cluster", "test_sentinel"})
"""Modules whose world is their own."""
SINGLE: Final = frozenset(
    {
        "test_damaged_records",
        "test_event_reads",
        "test_function_costs",
        "test_memory",
        "test_transitions",
        "test_valkey_connection",
    }
)
"""Modules that count what one Valkey does, or whose hundreds of cases differ in no name of a key."""


class SharedCluster:
    """The one cluster of this worker process, started for the first test that wants it.

    Tests leave its nodes running and its slots where they are.
    """

    def __init__(self, folder: Path, running: AsyncExitStack) -> None:
        self._folder = folder
        self._running = running
        self._cluster: ValkeyCluster | None = None

    async def started(self) -> ValkeyCluster:
        """The cluster."""
        if self._cluster is None:
            self._cluster = await self._running.enter_async_context(ValkeyCluster(self._folder))
        return self._cluster


@pytest.fixture(scope="session")
async def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SharedCluster]:
    """The cluster of this worker process."""
    async with AsyncExitStack() as running:
        yield SharedCluster(tmp_path_factory.mktemp("cluster"), running)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of stores on one Valkey, and on a cluster as well but for those of SINGLE."""
    if "world" in metafunc.fixturenames and metafunc.module.__name__.rpartition(".")[2] not in OWN_WORLD:
        kinds = ["single"] if metafunc.module.__name__.rpartition(".")[2] in SINGLE else ["single", "cluster"]
        metafunc.parametrize("world", kinds, indirect=True)


@pytest.fixture
async def world(
    valkey_url: str, shared_cluster: SharedCluster, request: pytest.FixtureRequest
) -> AsyncIterator[StoreWorld]:
    """The stores of one replica on an empty Valkey or cluster."""
    if request.param == "single":
        async with single_world(valkey_url) as world:
            yield world
    else:
        async with cluster_world(await shared_cluster.started()) as world:
            yield world


@asynccontextmanager
async def single_world(valkey_url: str) -> AsyncIterator[StoreWorld]:
    """With the permissions of a server and no others."""
    connections = StoreConnections.to(await limited_to(valkey_url, "server"))
    unlimited = ValkeyConnection(valkey_url)
    try:
        yield StoreWorld(connections, inspecting=unlimited)
    finally:
        await unlimited.close()
        await connections.close()


@asynccontextmanager
async def cluster_world(cluster: ValkeyCluster) -> AsyncIterator[StoreWorld]:
    """One shard of several."""
    await cluster.flush()
    connections = ClusterConnections(store_address(cluster.url))
    await connections.open()
    try:
        yield StoreWorld(connections.of_shard(TAG), shard=TAG)
    finally:
        await connections.close()
