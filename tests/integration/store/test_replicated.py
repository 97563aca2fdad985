"""A change is acknowledged once a replica has it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from valkey.asyncio import Valkey

from distributor.errors import ConfigurationError, Unavailable
from distributor.model.queueing import Enqueued, NewCommand, QueueOutcome
from distributor.store import durability
from tests.support.durable_store import DurableWorld, durable_world, missing_from
from tests.support.external_valkey import ExternalValkey
from tests.support.free_port import free_port
from tests.support.waiting import eventually, until


class Pair(NamedTuple):
    primary: ExternalValkey
    replica: ExternalValkey


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """A primary and its replica, which is online."""
    with free_port() as port:
        primary = ExternalValkey(tmp_path / "primary", port=port, repl_diskless_sync_delay=0)
        replica = ExternalValkey(tmp_path / "replica", replicaof=f"127.0.0.1 {port}")
        async with AsyncExitStack() as stack:
            for valkey in (primary, replica):
                await stack.enter_async_context(valkey)
            await eventually(lambda: _online(primary))
            yield Pair(primary, replica)


async def _online(primary: ExternalValkey) -> bool:
    return "online" in (await primary.info("replication")).get("slave0", "")


async def _promoted(replica: ExternalValkey) -> None:
    """Make the replica a primary, as a failover does."""
    async with Valkey.from_url(replica.url) as client:
        await client.replicaof("NO", "ONE")


async def test_the_loss_of_the_primary_loses_nothing(pair: Pair) -> None:
    async with durable_world(pair.primary.url, "replicated") as world:
        load = asyncio.ensure_future(world.keep_queueing())
        await until(lambda: len(world.kept) > 200)
        await pair.primary.kill()
        await load
        await _promoted(pair.replica)
        assert not await missing_from(pair.replica.url, world)


async def test_what_no_replica_has_is_not_acknowledged(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durability, "TIMEOUT_SECONDS", 1.0)
    async with durable_world(pair.primary.url, "replicated") as world:
        await eventually(lambda: _retried(world, world.new()))
        pair.replica.send(signal.SIGSTOP)
        new = world.new(idempotency_key="k", digest="d")
        with pytest.raises(Unavailable, match="may or may not survive.*0 of 1 replicas have acknowledged it") as caught:
            await world.store.enqueue([new])
        assert (caught.value.reason, caught.value.retry_after_seconds) == ("NOT_DURABLE", 1.0)
        assert await _is_stored(world, new.command_id)
        pair.replica.send(signal.SIGCONT)
        # A retry with the same key finds it, once the replica has it.
        (answer,) = await eventually(lambda: _retried(world, new))
        assert (answer.outcome, answer.command_id) == (QueueOutcome.ALREADY_QUEUED, new.command_id)


async def _retried(world: DurableWorld, new: NewCommand) -> list[Enqueued] | None:
    try:
        return await world.store.enqueue([new])
    except Unavailable:
        return None


async def test_nothing_is_announced_before_a_replica_has_it(pair: Pair) -> None:
    async with durable_world(pair.primary.url, "replicated") as world:
        await world.queued()
        world.told.clear()
        pair.replica.send(signal.SIGSTOP)
        new = world.new()
        call = asyncio.ensure_future(world.enqueue(new))
        settled = asyncio.ensure_future(world.durability.settled())
        await eventually(lambda: _is_stored(world, new.command_id))
        assert not call.done()
        assert not settled.done()
        assert not world.told
        pair.replica.send(signal.SIGCONT)
        await asyncio.gather(call, settled)
        assert world.told


async def _is_stored(world: DurableWorld, command_id: str) -> bool:
    return (await world.reader.states([command_id])) != [None]


async def test_a_wait_that_is_answered_by_another_primary_proves_nothing(pair: Pair, tmp_path: Path) -> None:
    """As during a failover: the exchanges still reach the old primary, the wait the new one, which has a replica."""
    with free_port() as port:
        other = ExternalValkey(tmp_path / "other", port=port, repl_diskless_sync_delay=0)
        its_replica = ExternalValkey(tmp_path / "other2", replicaof=f"127.0.0.1 {port}")
        async with other, its_replica, durable_world(pair.primary.url, "replicated") as world:
            await eventually(lambda: _online(other))
            async with durable_world(other.url, "replicated") as elsewhere:
                assert isinstance(world.durability, durability.Replicated)
                world.durability._waiting = elsewhere.connections.replicas
                with pytest.raises(Unavailable, match="another Valkey is the primary now"):
                    await world.queued()


async def test_more_replicas_than_there_are_is_refused(pair: Pair) -> None:
    with pytest.raises(ConfigurationError, match="1 replicas are connected, and replicas_acked is 2"):
        async with durable_world(pair.primary.url, "replicated", replicas=2):
            pass


async def _forbid_the_channel(valkey: ExternalValkey) -> None:
    """What `ACL SETUSER` leaves out unless it is named: channels."""
    async with Valkey.from_url(valkey.url) as client:
        await client.execute_command("ACL", "SETUSER", "default", "resetchannels")


async def test_an_acl_that_forbids_the_marker_is_refused_at_start(pair: Pair) -> None:
    await _forbid_the_channel(pair.primary)
    with pytest.raises(ConfigurationError, match="ACL must permit PUBLISH to the channel distributor:commit") as caught:
        async with durable_world(pair.primary.url, "replicated"):
            pass
    assert caught.value.field == "durability"


async def test_nothing_is_acknowledged_once_an_acl_forbids_the_marker(pair: Pair) -> None:
    """WAIT would answer at once, as its connection has written nothing."""
    async with durable_world(pair.primary.url, "replicated") as world:
        await world.queued()
        await _forbid_the_channel(pair.primary)
        with pytest.raises(Unavailable, match="may or may not survive.*(?i:permission)"):
            await world.store.enqueue([world.new()])
