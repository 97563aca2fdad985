"""Fixtures: a CommandService in memory, served on loopback. A conftest.py imports those it needs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.fake_command_service import FakeCommandService, serve_fake


@pytest.fixture
def service() -> FakeCommandService:
    """What the server under `server` knows."""
    return FakeCommandService()


@pytest.fixture
async def server(service: FakeCommandService) -> AsyncIterator[str]:
    """The address of `service`."""
    async with serve_fake(service) as target:
        yield target
