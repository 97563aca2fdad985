"""Agents that attach at the moment at which their server begins to drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from distributor.errors import Unavailable
from distributor.model.agent import AgentHello, Attached
from distributor.model.retry_policy import RetryPolicy
from distributor.store.connections import StoreConnections
from distributor.v1 import agent_gateway_pb2 as pb
from tests.support.gateway_world import GatewayWorld, MemoryStream
from tests.support.store_world import AGENT, StoreWorld
from tests.support.waiting import until

HELLO = pb.Hello(agent_id=AGENT, instance_id="i", capacity=5)


@pytest.fixture
async def world(valkey_url: str) -> AsyncIterator[GatewayWorld]:
    connections = StoreConnections.to(valkey_url)
    try:
        yield GatewayWorld(StoreWorld(connections), 65_536, 65_536, RetryPolicy(3, 1_000, 60_000))
    finally:
        await connections.close()


async def test_a_drain_that_begins_while_the_session_opens_reaches_the_agent(
    world: GatewayWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening, begun = asyncio.Event(), asyncio.Event()
    attach = world.world.sessions.attach

    async def slow(hello: AgentHello, unanswering_epoch: int | None = None) -> Attached:
        begun.set()
        await opening.wait()
        return await attach(hello, unanswering_epoch)

    monkeypatch.setattr(world.world.sessions, "attach", slow)
    stream = MemoryStream(world.gateway, HELLO)
    await begun.wait()
    world.gateway.drain(0.0)
    opening.set()
    await until(lambda: any(message.HasField("drain") for message in stream.context.written))
    assert stream.welcome.epoch == 1
    await stream.cut()


async def test_a_drain_that_begins_before_the_hello_refuses_it(
    world: GatewayWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = MemoryStream(world.gateway, HELLO)
    read = stream.context.read

    async def drain_first() -> object:
        world.gateway.drain(0.0)
        return await read()

    monkeypatch.setattr(stream.context, "read", drain_first)
    await stream.ended()
    assert isinstance(stream.error, Unavailable)
    assert stream.error.reason == "DRAINING"
    assert await world.world.reader.agent_ids("", 10) == []
