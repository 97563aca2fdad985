from __future__ import annotations

import asyncio

from distributor.dispatch.agent_registry import AgentRegistry
from distributor.observability.metrics import Metrics
from tests.support.memory_stores import MemoryAgent
from tests.support.waiting import PATIENCE_SECONDS


def connected(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("distributor_agents_connected")


def test_the_newer_stream_of_an_agent_replaces_the_older() -> None:
    metrics = Metrics()
    registry = AgentRegistry(metrics)
    older, newer = MemoryAgent(), MemoryAgent(epoch=2)
    assert registry.add(older) is None
    assert registry.add(newer) is older
    # The older one tidies up late: the newer one stays.
    registry.remove(older)
    assert registry.get("agent123") is newer
    assert (len(registry), list(registry), connected(metrics)) == (1, [newer], 1)
    registry.remove(newer)
    assert (len(registry), registry.get("agent123"), connected(metrics)) == (0, None, 0)


def test_an_older_stream_that_comes_late_does_not_replace_the_newer() -> None:
    registry = AgentRegistry(Metrics())
    older, newer = MemoryAgent(), MemoryAgent(epoch=2)
    assert registry.add(newer) is None
    assert registry.add(older) is older
    assert registry.get("agent123") is newer


async def test_whoever_waits_for_agents_to_leave_is_woken() -> None:
    registry = AgentRegistry(Metrics())
    agent = MemoryAgent()
    registry.add(agent)
    waiting = asyncio.create_task(registry.changed())
    registry.remove(agent)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await waiting


def test_agents_may_leave_while_somebody_goes_through_them() -> None:
    registry = AgentRegistry(Metrics())
    for agent_id in ("a", "b"):
        registry.add(MemoryAgent(agent_id))
    for agent in registry:
        registry.remove(agent)
    assert len(registry) == 0
