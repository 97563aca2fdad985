"""A start waits in memory for a few milliseconds: whatever happens then, its command does not run a second time."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from distributor.dispatch import agent_reports
from distributor.dispatch.pending_receipts import PendingReceipts
from distributor.model.delivery import ClaimRequest
from distributor.model.lifecycle import CommandStatus
from distributor.model.retry_policy import RetryPolicy
from distributor.store.connections import StoreConnections
from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1 import command_pb2
from tests.support.gateway_world import GatewayWorld, MemoryStream
from tests.support.store_world import AGENT, LEASE, StoreWorld
from tests.support.wire_agent import hello

FOREVER_SECONDS = 1e6


class Replica:
    """A gateway that stores no receipt before it must."""

    def __init__(self, valkey_url: str) -> None:
        self.connections = StoreConnections.to(valkey_url)
        self.world = StoreWorld(self.connections)
        self.gateway = GatewayWorld(self.world, 1_000, 1_000, RetryPolicy(10, 10))

    async def stream(self, **changes: Any) -> MemoryStream:
        """A new stream of the agent, welcomed."""
        stream = MemoryStream(self.gateway.gateway, hello(AGENT, **changes))
        await stream.welcomed()
        return stream

    async def started(self) -> tuple[MemoryStream, pb.RunningCommand]:
        """The stream of an agent that has just said that it has started a command, and what its next Hello says."""
        stream = await self.stream()
        new = self.world.new()
        encoded = command_pb2.Command(command_id=new.command_id, type="PRINT").SerializeToString()
        await self.world.enqueue(new._replace(encoded=encoded))
        agent = self.gateway.attached(AGENT)
        (claim,) = await self.world.store.claim([ClaimRequest(AGENT, agent.session.epoch, 1, LEASE)])
        agent.deliver(claim, 0)
        await stream.receives(1)
        lease: dict[str, Any] = {"command_id": new.command_id, "lease_id": LEASE}
        assert await stream.say(pb.ConnectRequest(received=[pb.Received(**lease)], started=[pb.Started(**lease)]))
        assert not (await self.world.state(new.command_id)).receipts.started_ms
        return stream, pb.RunningCommand(**lease)


@pytest.fixture
async def replicas(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Replica]]:
    """Two on one Valkey."""
    waiting = functools.partial(PendingReceipts, delay_seconds=FOREVER_SECONDS)
    monkeypatch.setattr(agent_reports, "PendingReceipts", waiting)
    both = [Replica(valkey_url), Replica(valkey_url)]
    try:
        yield both
    finally:
        for replica in both:
            await replica.connections.close()


async def test_a_session_that_supersedes_another_takes_no_start_away(replicas: list[Replica]) -> None:
    here, _ = replicas
    first, held = await here.started()
    second = await here.stream()
    state = await here.world.state(held.command_id)
    assert (state.status, state.reason.code, state.attempt) == (CommandStatus.FAILED, "outcome_unknown", 1)
    assert state.receipts.started_ms
    await first.cut()
    await second.cut()


async def test_an_agent_that_moves_to_another_replica_keeps_what_it_has_just_started(replicas: list[Replica]) -> None:
    """The start is stored when the old replica notices."""
    here, there = replicas
    first, held = await here.started()
    second = await there.stream(running=[held])
    assert [one.verdict for one in second.welcome.verdicts] == [pb.VERDICT_KEEP]
    await first.cut()
    state = await here.world.state(held.command_id)
    assert (state.status, state.attempt) == (CommandStatus.ASSIGNED, 1)
    assert state.receipts.started_ms
    await second.cut()


async def test_a_new_instance_at_another_replica_runs_nothing_whose_start_is_not_stored(
    replicas: list[Replica],
) -> None:
    here, there = replicas
    first, held = await here.started()
    # Nobody answers for the first instance, as the replica that holds its stream reads no events here.
    second = await there.stream(instance_id="instance-2")
    await first.cut()
    state = await here.world.state(held.command_id)
    assert (state.status, state.reason.code, state.attempt) == (CommandStatus.FAILED, "outcome_unknown", 1)
    await second.cut()
