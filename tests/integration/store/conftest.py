from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from distributor.store.valkey_connection import ValkeyConnection
from tests.support.store_world import StoreWorld


@pytest.fixture
async def world(valkey_url: str) -> AsyncIterator[StoreWorld]:
    """The stores of one replica on an empty Valkey."""
    connection = ValkeyConnection(valkey_url)
    try:
        yield StoreWorld(connection)
    finally:
        await connection.close()
