"""Settings that nothing else shows the effect of: each is changed, and what it changes is seen."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

import pytest
from google.protobuf.struct_pb2 import Value
from valkey.asyncio import Valkey

from distributor.errors import ConfigurationError
from distributor.store import keys
from distributor.v1 import agent_gateway_pb2 as pb
from tests.support.http_bodies import largest_body
from tests.support.own_logs import own_logs
from tests.support.raw_http2 import raw_connection
from tests.support.received_errors import error_of
from tests.support.running_server import (
    CANCELLED,
    FAILED,
    intercepted_server,
    queue_request,
    quick_settings,
    running_server,
)
from tests.support.waiting import PATIENCE_SECONDS, eventually

STALL_SECONDS: Final = 0.3
SECONDS: Final = 10.0
"""For what happens at once; the defaults of the settings below are far longer."""


def stall() -> None:
    """Block the loop."""
    time.sleep(STALL_SECONDS)


async def test_batch_size_bounds_what_is_given_out_at_once(valkey_url: str) -> None:
    async with running_server(valkey_url, batch_size=3) as server:
        await server.queue_many(10)
        async with server.agent(capacity=20) as agent:
            await agent.assigned(10)
            sizes = [len(message.commands.assignments) for message in agent.messages if message.HasField("commands")]
            assert sizes == [3, 3, 3, 1]


async def test_cleanup_interval_sets_the_pace_of_sweeping(valkey_url: str) -> None:
    async with running_server(valkey_url, cleanup_interval=0.05), Valkey.from_url(valkey_url) as client:
        # The first sweep comes at the start, whatever the interval.
        for command_id in ("c1", "c2"):
            await client.rpush(keys.ENDED, command_id)

            async def swept() -> bool:
                return not await client.llen(keys.ENDED)

            async with asyncio.timeout(SECONDS):
                await eventually(swept)


async def test_polling_interval_finds_what_nothing_announced(valkey_url: str) -> None:
    async with running_server(valkey_url, polling_interval=0.05) as server, Valkey.from_url(valkey_url) as client:
        command_id = await server.queue()
        ready = keys.READY.format(agent_id="agent123")
        await client.zrem(ready, command_id)
        async with server.agent() as agent:
            await agent.heartbeat()
            await client.zadd(ready, {command_id: 1})
            async with asyncio.timeout(SECONDS):
                await agent.next_assignment(command_id)


async def test_max_params_bytes_bounds_params(valkey_url: str) -> None:
    async with running_server(valkey_url, max_params_bytes=2_000) as server:
        await server.queue(params={"text": "x" * 1_900})
        error = await error_of(server.commands.QueueCommand(queue_request(params={"text": "x" * 2_000})))
        assert (error.field, error.reason) == ("command.params", "PARAMS_TOO_LARGE")
        assert "the limit is 2,000" in error.text


async def test_max_result_bytes_bounds_results(valkey_url: str) -> None:
    async with running_server(valkey_url, max_result_bytes=2_000) as server, server.agent() as agent:
        assert agent.welcome.limits.max_result_bytes == 2_000
        assignment = await agent.next_assignment(await server.queue())
        (ack,) = await agent.finish(assignment, data=Value(string_value="x" * 2_000))
        assert (ack.verdict, ack.reason.code) == (pb.RESULT_VERDICT_REJECTED, "result_too_large")
        assert (await server.result(assignment.command.command_id)).status == FAILED


async def test_start_within_and_heartbeat_interval_are_what_agents_go_by(valkey_url: str) -> None:
    async with running_server(valkey_url, heartbeat_interval=7.0, start_within=8.5) as server, server.agent() as agent:
        assert agent.welcome.heartbeat_interval.ToMilliseconds() == 7_000
        assert agent.welcome.start_within.ToMilliseconds() == 8_500


async def test_time_limit_and_queue_ttl_hold_where_a_command_does_not_say(valkey_url: str) -> None:
    async with running_server(valkey_url, time_limit=12.0, queue_ttl=34.5) as server:
        command = (await server.commands.QueueCommand(queue_request())).command
        assert command.time_limit.ToMilliseconds() == 12_000
        assert command.queue_ttl.ToMilliseconds() == 34_500


async def test_priority_ageing_weighs_age_against_priority(valkey_url: str) -> None:
    """Of no worth here, so that the older goes first, which it does not otherwise."""
    for ageing, order in ((60.0, ["newer", "older"]), (0.000_1, ["older", "newer"])):
        async with running_server(valkey_url, priority_ageing=ageing) as server:
            ids = {await server.queue(priority=0): "older", await server.queue(priority=100): "newer"}
            async with server.agent() as agent:
                await agent.assigned(2)
                assert [ids[command_id] for command_id in agent.command_ids] == order
                await agent.finish(*agent.assignments)


async def test_queue_full_says_what_a_full_queue_does(valkey_url: str) -> None:
    async with running_server(valkey_url, queue_limit=1, queue_full="drop") as server:
        first = await server.queue()
        await server.queue()
        dropped = await server.result(first)
        assert (dropped.status, dropped.reason.code) == (CANCELLED, "queue_overflow")


async def test_events_kept_limits_the_event_stream(valkey_url: str) -> None:
    async with running_server(valkey_url, events_kept=100) as server, Valkey.from_url(valkey_url) as client:
        for _ in range(400):
            await server.queue()
        assert await client.xlen(keys.EVENTS) <= 300


async def test_events_kept_for_limits_the_event_stream_by_age(valkey_url: str) -> None:
    settings = {"events_kept": 100, "events_kept_for": 3_600.0}
    async with running_server(valkey_url, **settings) as server, Valkey.from_url(valkey_url) as client:
        for number in range(300):
            await client.xadd(keys.EVENTS, {"origin": "long ago"}, id=f"{number + 1}-0")
        await server.queue()
        assert await client.xlen(keys.EVENTS) <= 200
        for _ in range(400):
            await server.queue()
        assert await client.xlen(keys.EVENTS) >= 401


async def test_result_retention_is_how_long_a_result_is_kept(valkey_url: str) -> None:
    async with running_server(valkey_url, result_retention=60.0) as server, server.agent() as agent:
        assignment = await agent.next_assignment(await server.queue())
        await agent.finish(assignment)
        async with Valkey.from_url(valkey_url) as client:
            left = await client.pttl(keys.RESULT.format(command_id=assignment.command.command_id))
        assert 0 < left <= 60_000


async def test_loop_stall_threshold_is_how_long_the_loop_may_be_blocked(valkey_url: str) -> None:
    with own_logs() as logs:
        async with running_server(valkey_url, loop_stall_threshold=60.0):
            stall()
        assert "the event loop is blocked" not in [line["event"] for line in logs]
        async with running_server(valkey_url, loop_stall_threshold=STALL_SECONDS / 10):
            stall()
    assert "the event loop is blocked" in [line["event"] for line in logs]


async def test_durability_is_what_an_acknowledgement_waits_for(tmp_path: Path) -> None:
    settings = quick_settings("", data_dir=tmp_path, durability="disk")
    async with intercepted_server(settings) as server:
        embedded = server.process._embedded
        assert embedded is not None
        loop, began, released = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

        def hold(descriptor: int) -> None:
            loop.call_soon_threadsafe(began.set)
            asyncio.run_coroutine_threadsafe(released.wait(), loop).result()

        embedded.cadence._files._fdatasync = hold
        queueing = asyncio.ensure_future(server.queue())
        await began.wait()
        (command_id,) = await eventually(server.ids)
        assert not queueing.done()
        released.set()
        assert await queueing == command_id


async def test_replicas_acked_is_how_many_replicas_there_must_be(valkey_url: str) -> None:
    with pytest.raises(ConfigurationError, match="0 replicas are connected, and replicas_acked is 3"):
        async with running_server(valkey_url, durability="replicated", replicas_acked=3):
            pass


async def test_http_limits_of_a_server_are_settings(valkey_url: str) -> None:
    async with running_server(valkey_url, http_request_timeout=0.3, max_http_body_bytes=1_048_576) as server:
        address, limits = f"127.0.0.1:{server.process.http_port}", server.process.http_limits
        assert limits is not None
        async with asyncio.timeout(PATIENCE_SECONDS), raw_connection(address, [b"GET /healthz"]) as connection:
            assert await connection.closed() == b""
    # By default, 64 KiB.
    assert await largest_body(limits, 32_000, 500_000, 3_000_000) == 500_000
