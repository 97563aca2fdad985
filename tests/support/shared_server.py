"""Fixtures for folders whose tests share one server, because starting one takes longer than most tests.

A conftest imports all three. The server lives until the end of the run and has a Valkey of its own, so that its
background loops do not interfere with the tests of other folders.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from distributor.store.embedded import EmbeddedValkey
from tests.support.running_server import RunningServer, running_server
from tests.support.waiting import until


@pytest.fixture(scope="session")
async def shared_valkey_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """URL of the Valkey of this folder. Tests want `valkey_url`, which is empty when they begin."""
    async with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as valkey:
        yield valkey.url


@pytest.fixture(scope="session")
async def shared_server(shared_valkey_url: str) -> AsyncIterator[RunningServer]:
    """One served ServerProcess for this folder. Tests want `server`, which has no commands and agents at first."""
    async with running_server(shared_valkey_url) as server:
        yield server


@pytest.fixture
async def server(shared_server: RunningServer, valkey_url: str) -> AsyncIterator[RunningServer]:
    """A served ServerProcess on an empty Valkey. Tests that stop it, or want other settings, start their own."""
    assert shared_server.settings.valkey_url == valkey_url
    yield shared_server
    # On the Valkey that the next test empties, the end of a stream would be that of another session of this epoch.
    await until(lambda: not shared_server.process.streams)
