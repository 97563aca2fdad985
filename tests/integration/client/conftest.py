"""A client of a real server on a real Valkey, with faults to inject in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import pytest

from distributor.client import ClientOptions, CommandClient
from distributor.model.retry_policy import RetryPolicy
from tests.support.faulty_server import agent, faults, running, server, shared_faulty_server
from tests.support.shared_server import shared_valkey_url

__all__ = ["agent", "faults", "running", "server", "shared_faulty_server", "shared_valkey_url"]

QUICK: Final = ClientOptions(
    calls=RetryPolicy(attempts=4, first_ms=1, max_ms=5), reconnects=RetryPolicy(first_ms=1, max_ms=5)
)


@pytest.fixture
async def client(server: str) -> AsyncIterator[CommandClient]:
    async with CommandClient(server, QUICK) as client:
        yield client
