"""What tests of the agent share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from distributor.agent import Agent
from tests.support.scripted_gateway import ScriptedGateway, scripted_gateway
from tests.support.serving_agent import Gate


@pytest.fixture
async def gateway() -> AsyncIterator[ScriptedGateway]:
    """A listening gateway without agents."""
    async with scripted_gateway() as served:
        yield served


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def agent(gateway: ScriptedGateway, gate: Gate) -> Agent:
    made = Agent("agent123", server=gateway.address, capacity=30, labels={"zone": "a"})
    made.add_handler("WAIT", gate)
    return made
