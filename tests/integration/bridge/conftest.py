"""A whole server and a bridge. Starting them takes longer than most tests, so all share them, over an empty Valkey."""

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


@pytest.fixture(scope="session")
async def shared_bridge(shared_server: RunningServer) -> AsyncIterator[RunningBridge]:
    """One bridge for this folder. Tests want `bridge`."""
    async with running_bridge(shared_server) as bridge:
        yield bridge


@pytest.fixture
async def bridge(server: RunningServer, shared_bridge: RunningBridge) -> RunningBridge:
    """A bridge of `server`."""
    return shared_bridge
