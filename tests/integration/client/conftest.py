"""A client of a CommandService in memory, over a real connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import pytest

from distributor.client import ClientOptions, CommandClient
from distributor.model.retry_policy import RetryPolicy
from tests.support.command_service_fixtures import server, service

__all__ = ["server", "service"]

QUICK: Final = ClientOptions(
    calls=RetryPolicy(attempts=4, first_ms=1, most_ms=5), reconnects=RetryPolicy(first_ms=1, most_ms=5)
)


@pytest.fixture
async def client(server: str) -> AsyncIterator[CommandClient]:
    async with CommandClient(server, QUICK) as client:
        yield client
