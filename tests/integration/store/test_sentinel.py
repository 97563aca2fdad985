"""Valkeys under Sentinels, whose primary is killed or demoted, as the callers of a store see it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from distributor.errors import Unavailable
from distributor.store.connections import StoreConnections
from distributor.store.valkey_connection import ValkeyConnection
from tests.support.queueing_load import Load, lost
from tests.support.store_world import StoreWorld
from tests.support.valkey_sentinel import DOWN_AFTER_MS, SERVICE, ValkeySentinel
from tests.support.waiting import eventually


@pytest.fixture
async def sentinel(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[ValkeySentinel]:
    """Valkeys and Sentinels of the test's own, with a parameter of how soon one is taken for dead."""
    async with ValkeySentinel(tmp_path, getattr(request, "param", DOWN_AFTER_MS)) as sentinel:
        yield sentinel


PATIENT: Final = pytest.mark.parametrize("sentinel", [60_000], indirect=True)
"""No Valkey is taken for dead only because the machine is busy."""


@pytest.fixture
async def world(sentinel: ValkeySentinel) -> AsyncIterator[StoreWorld]:
    """The stores of one replica."""
    connections = StoreConnections.to(sentinel.url)
    try:
        yield StoreWorld(connections)
    finally:
        await connections.close()


async def test_a_primary_that_is_killed_is_replaced(sentinel: ValkeySentinel, world: StoreWorld) -> None:
    load = Load(world)
    await load.grown(50)
    before = await sentinel.primary()
    await world.connections.replicas.call("WAIT", 2, 10_000)
    acknowledged = list(load.acknowledged)
    await before.kill()
    await sentinel.fail_over_from(before)
    await load.grown(50)
    await load.stop()
    assert await lost(world, acknowledged) == []
    assert load.failures, "the time without a primary was noticed"
    assert all(failure.retry_after_seconds for failure in load.failures)


@PATIENT
async def test_a_planned_failover_loses_nothing(sentinel: ValkeySentinel, world: StoreWorld) -> None:
    """As for maintenance: the primary takes no more writes before its replica is promoted."""
    load = Load(world)
    await load.grown(50)
    before = await sentinel.primary()
    assert await sentinel.sentinels[0].call("SENTINEL", "FAILOVER", SERVICE, "COORDINATED")
    await sentinel.fail_over_from(before)
    await load.grown(50)
    await load.stop()
    assert await lost(world, load.acknowledged) == []


@PATIENT
async def test_a_primary_that_is_demoted_is_left(sentinel: ValkeySentinel, world: StoreWorld) -> None:
    """It still answers, but takes no writes."""
    load = Load(world)
    await load.grown(50)
    before = await sentinel.primary()
    assert await sentinel.sentinels[0].call("SENTINEL", "FAILOVER", SERVICE)
    await sentinel.fail_over_from(before)
    await eventually(lambda: before.is_now("slave"))
    await load.grown(50)
    await load.stop()
    assert await lost(world, load.acknowledged[-49:]) == []


async def test_a_sentinel_that_is_away_is_not_needed(sentinel: ValkeySentinel, world: StoreWorld) -> None:
    await sentinel.sentinels[0].kill()
    assert await world.queued()


async def test_connections_that_are_made_at_once_know_every_sentinel(sentinel: ValkeySentinel) -> None:
    """Also after some that began while the first Sentinel did not answer."""
    await sentinel.sentinels[0].kill()
    reads = ValkeyConnection(sentinel.url)
    try:
        await asyncio.gather(*(reads.call("PING") for _ in range(20)))
        await sentinel.sentinels[0].start()
        await sentinel.sentinels[1].kill()
        await sentinel.sentinels[2].kill()
        await reads.close()
        assert await reads.call("PING") == b"PONG"
    finally:
        await reads.close()


async def test_without_any_sentinel(sentinel: ValkeySentinel, world: StoreWorld) -> None:
    for one in sentinel.sentinels:
        await one.kill()
    with pytest.raises(Unavailable, match=f"No master found for '{SERVICE}'"):
        await world.queued()


async def test_a_name_that_the_sentinels_do_not_know(sentinel: ValkeySentinel) -> None:
    connections = StoreConnections.to(sentinel.url.replace(f"/{SERVICE}", "/another"))
    with pytest.raises(Unavailable, match="No master found for 'another'"):
        await StoreWorld(connections).queued()
    await connections.close()
