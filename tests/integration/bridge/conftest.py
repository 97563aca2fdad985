"""A whole server, which all tests share as starting it takes longer than most, over an empty Valkey; and a bridge."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.running_bridge import RunningBridge, running_bridge
from tests.support.running_server import RunningServer, running_server


@pytest.fixture(scope="session")
async def shared_server(shared_valkey_url: str) -> AsyncIterator[RunningServer]:
    """One served ServerProcess for this folder. Tests want `server`."""
    async with running_server(shared_valkey_url) as server:
        yield server


@pytest.fixture
async def server(shared_server: RunningServer, valkey_url: str) -> RunningServer:
    """A served ServerProcess on an empty Valkey."""
    assert shared_server.settings.valkey_url == valkey_url
    return shared_server


@pytest.fixture
async def bridge(server: RunningServer) -> AsyncIterator[RunningBridge]:
    """A bridge of `server`, of this test: one from before would tell everybody that its store was emptied."""
    async with running_bridge(server) as bridge:
        yield bridge
