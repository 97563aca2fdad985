from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from distributor.store.connections import StoreConnections
from distributor.store.valkey_connection import ValkeyConnection
from tests.support.limited_user import limited_to
from tests.support.store_world import StoreWorld


@pytest.fixture
async def world(valkey_url: str) -> AsyncIterator[StoreWorld]:
    """The stores of one replica on an empty Valkey, with the permissions of a server and no others."""
    connections = StoreConnections.to(await limited_to(valkey_url, "server"))
    unlimited = ValkeyConnection(valkey_url)
    try:
        yield StoreWorld(connections, inspecting=unlimited)
    finally:
        await unlimited.close()
        await connections.close()
