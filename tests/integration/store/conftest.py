from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from distributor.store.connections import StoreConnections
from tests.support.store_world import StoreWorld


@pytest.fixture
async def world(valkey_url: str) -> AsyncIterator[StoreWorld]:
    """The stores of one replica on an empty Valkey."""
    connections = StoreConnections.to(valkey_url)
    try:
        yield StoreWorld(connections)
    finally:
        await connections.close()
