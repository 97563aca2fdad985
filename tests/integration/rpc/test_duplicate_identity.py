"""Two instances under one agent id: a live one keeps it, a half-open connection loses it, and both hear of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from distributor.store.session_store import MAX_SESSIONS_PER_MINUTE
from distributor.wire.status_details import details_of, retry_after_of
from tests.support.running_server import RunningServer, running_server
from tests.support.wire_agent import WireAgent, hello, opened_stream

Servers = tuple[RunningServer, RunningServer]
SECOND: dict[str, str] = {"instance_id": "instance-2"}
TAKEOVER_SECONDS = 2.0
"""A second, on a busy machine."""


@pytest.fixture(params=["one server", "two servers"])
async def servers(
    valkey_url: str, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[RunningServer, RunningServer]]:
    """The server of the first instance, and that of the second."""
    async with running_server(valkey_url) as first:
        if request.param == "one server":
            yield first, first
        else:
            async with running_server(valkey_url) as second:
                yield first, second


@asynccontextmanager
async def refused(server: RunningServer, **changes: str) -> AsyncIterator[WireAgent]:
    """A stream whose Hello the server has refused."""
    async with opened_stream(server.address) as stream:
        await stream.send(hello=hello(**changes))
        await stream.ended()
        yield stream


async def test_another_live_instance_is_refused_and_both_hear_of_it(
    servers: Servers,
) -> None:
    here, there = servers
    async with here.agent() as first:
        begun = time.monotonic()
        async with refused(there, **SECOND) as second:
            assert second.code is grpc.StatusCode.ALREADY_EXISTS
            assert "another live instance is connected as agent 'agent123' from ipv4:" in second.details
        assert time.monotonic() - begun < TAKEOVER_SECONDS
        await first.until(lambda: any(message.HasField("probe") for message in first.messages))
        assert first.code is None
        info = await here.agent_info()
        assert info.epoch == 1
        assert [problem.code for problem in info.problems] == ["duplicate_identity"]
        assert "another instance claims this id from ipv4:127.0.0.1:" in info.problems[0].message


async def test_a_half_open_connection_loses_the_id_within_a_second(
    servers: Servers,
) -> None:
    here, there = servers
    async with here.agent() as first:
        first.answers_probes = False
        begun = time.monotonic()
        async with there.agent(**SECOND) as second:
            assert time.monotonic() - begun < TAKEOVER_SECONDS
            assert second.welcome.epoch == 2
            assert await first.ended() is grpc.StatusCode.ABORTED


async def test_the_id_of_an_agent_whose_server_is_stuck_is_free_within_seconds(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = servers
    if here is there:
        return

    async def stuck(*_: object) -> bool:
        await asyncio.Event().wait()
        return True

    async with here.agent() as first:
        monkeypatch.setattr("distributor.rpc.agent_stream.AgentStream.probe", stuck)
        async with there.agent(**SECOND) as second:
            assert second.welcome.epoch == 2
            assert first.code is None or first.code is grpc.StatusCode.ABORTED


async def test_instances_that_supersede_each_other_again_and_again_are_held_off(
    valkey_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_server(valkey_url) as server:
        for _ in range(MAX_SESSIONS_PER_MINUTE):
            async with server.agent() as agent:
                await agent.leave()
        async with refused(server) as flapping:
            assert flapping.code is grpc.StatusCode.UNAVAILABLE
            assert "has attached 30 times within a minute" in flapping.details
            assert 1.0 <= (retry_after_of(details_of(flapping.trailing)) or 0.0) <= 60.0
        assert any("an agent attaches too often" in line.getMessage() for line in caplog.records)
        assert [problem.code for problem in (await server.agent_info()).problems] == ["flapping"]
        async with server.agent("agent456") as other:
            assert other.welcome.epoch == 1
