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


async def test_all_agents_may_connect_while_the_loop_is_busy() -> None:
    """gRPC holds calls that the loop has not taken yet, and by default refuses some beyond 1,000, all beyond 3,000."""

    async def answer(request: bytes, _: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return request

    handler = grpc.method_handlers_generic_handler("test", {"Echo": grpc.unary_unary_rpc_method_handler(answer)})
    server = grpc.aio.server(options=transport.server_options(), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    options = [*transport.channel_options(), ("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.insecure_channel(f"127.0.0.1:{port}", options=options) for _ in range(4)]
    try:
        echoes: list[grpc.UnaryUnaryMultiCallable[bytes, bytes]] = [
            channel.unary_unary("/test/Echo") for channel in channels
        ]
        # The blocking client sends in its own threads, so nothing yields to the server's loop here.
        calls = [echoes[n % len(echoes)].future(b"", wait_for_ready=True) for n in range(3_600)]
        codes = await asyncio.to_thread(lambda: {call.code() for call in calls})
        assert codes == {grpc.StatusCode.OK}
    finally:
        for channel in channels:
            channel.close()
        await server.stop(0)
