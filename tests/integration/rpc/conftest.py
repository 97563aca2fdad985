"""A whole server. Starting and stopping one takes longer than most tests, so they share it, over an emptied Valkey."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.running_server import RunningServer, running_server


@pytest.fixture(scope="session")
async def shared_server(shared_valkey_url: str) -> AsyncIterator[RunningServer]:
    """One served ServerProcess for this run. Tests want `server`, which has no commands and agents when they begin."""
    async with running_server(shared_valkey_url) as server:
        yield server


@pytest.fixture
async def server(shared_server: RunningServer, valkey_url: str) -> RunningServer:
    """A served ServerProcess on an empty Valkey. Tests that stop it, or want other settings, start their own."""
    assert shared_server.settings.valkey_url == valkey_url
    return shared_server
