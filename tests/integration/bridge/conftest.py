"""A whole server, shared by the tests of this folder, and a bridge for each."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.running_bridge import RunningBridge, running_bridge
from tests.support.running_server import RunningServer
from tests.support.shared_server import server, shared_server, shared_valkey_url

__all__ = ["bridge", "server", "shared_server", "shared_valkey_url"]


@pytest.fixture
async def bridge(server: RunningServer) -> AsyncIterator[RunningBridge]:
    """A bridge of `server`, of this test: one from before would tell everybody that its store was emptied."""
    async with running_bridge(server) as bridge:
        yield bridge
