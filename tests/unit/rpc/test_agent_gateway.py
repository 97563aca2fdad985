"""Attaching when things cross: handlers that are cancelled, replies that come out of order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from distributor.dispatch.agent_registry import AgentRegistry
from distributor.dispatch.agent_reports import AgentReports
from distributor.dispatch.wakeups import Wakeups
from distributor.model.agent import AgentHello, Attached
from distributor.model.retry_policy import RetryPolicy
from distributor.observability.metrics import Metrics
from distributor.rpc.agent_gateway import AgentGateway
from distributor.settings import ServerSettings
from distributor.v1 import agent_gateway_pb2 as pb
from tests.support.memory_sessions import MemorySessions
from tests.support.memory_stores import MemoryOutputLog, MemoryStore
from tests.support.scripted_context import ScriptedContext
from tests.support.waiting import until
from tests.support.wire_agent import hello


class SlowSessions(MemorySessions):
    """Sessions that are opened in the order of asking; a test says when each reply comes."""

    def __init__(self) -> None:
        super().__init__()
        self.replies: list[asyncio.Event] = []

    async def attach(self, hello: AgentHello, unanswering_epoch: int | None = None) -> Attached:
        attached = await super().attach(hello)
        self.replies.append(asyncio.Event())
        await self.replies[-1].wait()
        return attached


class World:
    def __init__(self) -> None:
        store = MemoryStore()
        self.sessions = SlowSessions()
        self.registry = AgentRegistry(Metrics())
        wakeups = Wakeups()
        reports = AgentReports(store, MemoryOutputLog(), wakeups, RetryPolicy(10, 10))
        self.gateway = AgentGateway(store, self.sessions, reports, self.registry, wakeups, ServerSettings())
        self.contexts: list[ScriptedContext] = []
        self.handlers: list[asyncio.Task[None]] = []

    async def connect(self) -> None:
        """Say hello; returns once the store was asked."""
        asked = len(self.sessions.replies)
        context = ScriptedContext(pb.ConnectRequest(hello=hello()))
        self.contexts.append(context)
        self.handlers.append(asyncio.create_task(self.gateway.Connect(object(), context)))
        await until(lambda: len(self.sessions.replies) > asked)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    for context in world.contexts:
        context.half_close()
    await asyncio.wait(world.handlers)


async def test_a_session_whose_agent_goes_away_while_it_is_opened_is_closed(world: World) -> None:
    await world.connect()
    (handler,) = world.handlers
    handler.cancel()
    await asyncio.wait([handler])
    assert handler.cancelled()
    assert world.sessions.detached == []
    world.sessions.replies[0].set()
    await world.gateway.idle()
    assert world.sessions.detached == [("agent123", 1)]
    assert len(world.registry) == 0


async def test_the_newer_of_two_sessions_stays_although_its_reply_comes_first(world: World) -> None:
    await world.connect()
    await world.connect()
    older, newer = world.sessions.replies
    newer.set()
    await until(lambda: world.registry.get("agent123"))
    older.set()
    await asyncio.wait(world.handlers[:1])
    stays = world.registry.get("agent123")
    assert stays is not None
    assert stays.session.epoch == 2
    assert world.contexts[0].aborted == (grpc.StatusCode.ABORTED, "a newer session of this agent is open")
    assert world.contexts[1].aborted is None
    # The store knows which session is the latest.
    assert world.sessions.detached == [("agent123", 1)]
