"""Both sides of a connection, which only work as a pair."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from distributor.v1.command_service_pb2 import WatchCommandsRequest, WatchCommandsResponse
from distributor.v1.command_service_pb2_grpc import CommandServiceStub
from distributor.wire import transport
from tests.support.running_server import running_server

FAST_PING_MS = 250
CUT_OFF_AFTER_SECONDS = 3.8


def test_the_server_permits_every_ping_that_the_client_sends() -> None:
    client, server = dict(transport.channel_options()), dict(transport.server_options())
    assert client["grpc.keepalive_time_ms"] > server["grpc.http2.min_ping_interval_without_data_ms"]
    assert server["grpc.keepalive_permit_without_calls"] == client["grpc.keepalive_permit_without_calls"] == 1
    # The spelling that the server ignores.
    assert not any("min_recv_ping" in name for name in server)


def test_both_sides_take_messages_of_the_same_size() -> None:
    client, server = dict(transport.channel_options()), dict(transport.server_options())
    for name in ("grpc.max_receive_message_length", "grpc.max_send_message_length"):
        assert client[name] == server[name] == transport.MAX_MESSAGE_BYTES


def test_a_port_is_never_shared() -> None:
    assert dict(transport.server_options())["grpc.so_reuseport"] == 0


async def test_the_key_for_the_shortest_ping_interval_is_the_one_that_works(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were it ignored, gRPC's own five minutes would hold, and the connection be cut off after some three seconds."""
    monkeypatch.setattr(transport, "MIN_PING_INTERVAL_MS", 100)
    options = [
        *(option for option in transport.channel_options() if option[0] != "grpc.keepalive_time_ms"),
        ("grpc.keepalive_time_ms", FAST_PING_MS),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    async with (
        running_server(valkey_url) as server,
        grpc.aio.insecure_channel(server.address, options=options) as channel,
    ):
        call = CommandServiceStub(channel).WatchCommands(WatchCommandsRequest())
        await call.read()
        reading = asyncio.ensure_future(call.read())
        await asyncio.wait([reading], timeout=CUT_OFF_AFTER_SECONDS)
        assert not reading.done(), "the connection was cut off for its pings"
        command_id = await server.queue()
        message = await reading
        assert isinstance(message, WatchCommandsResponse)
        assert message.commands[0].command_id == command_id
        call.cancel()
