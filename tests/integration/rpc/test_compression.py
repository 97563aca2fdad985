"""Which messages travel compressed, between real gRPC peers; and what a hostile one can do."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
import pytest

from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1 import command_pb2
from distributor.v1 import command_service_pb2 as wire
from distributor.v1.command_service_pb2_grpc import CommandServiceStub
from distributor.wire.transport import MAX_MESSAGE_BYTES, channel_options
from tests.support.running_server import COMPLETED, RunningServer, queue_request, running_server
from tests.support.wire_agent import WireAgent, result

LARGE: Final = {"text": "all work and no play makes Jack a dull boy " * 2_000}
"""86 KB of params."""
STDOUT: Final = command_pb2.OUTPUT_STREAM_STDOUT
SMALL: Final = {"text": "hello"}
BOMB: Final = gzip.compress(bytes(64 * 1024 * 1024), 9)


def counted(server: RunningServer, what: str) -> tuple[float, float]:
    """Bytes before and after compression."""
    registry = server.process.metrics.registry
    names = ("plain", "compressed")
    values = [
        registry.get_sample_value(f"distributor_compression_{name}_bytes_total", {"what": what}) for name in names
    ]
    assert None not in values
    return values[0] or 0.0, values[1] or 0.0


async def commands_message(agent: WireAgent) -> pb.ConnectResponse:
    """The message that brought commands, as it was on the wire."""
    return await agent.until(
        lambda: next((one for one in agent.messages if one.gzip or one.HasField("commands")), None)
    )


def inflated(message: pb.ConnectResponse) -> pb.ConnectResponse:
    return pb.ConnectResponse.FromString(gzip.decompress(message.gzip))


async def test_an_agent_that_accepts_it_gets_large_params_compressed(server: RunningServer) -> None:
    before = counted(server, "sent_to_agents")
    async with server.agent(accepts_gzip=True) as agent:
        assert agent.welcome.accepts_gzip
        command_id = await server.queue(params=LARGE)
        message = await commands_message(agent)
        assert [field.name for field, _ in message.ListFields()] == ["gzip"]
        (assignment,) = inflated(message).commands.assignments
        assert assignment.command.command_id == command_id
        assert dict(assignment.command.params.items()) == LARGE
        plain, packed = (now - then for now, then in zip(counted(server, "sent_to_agents"), before, strict=True))
        assert len(message.gzip) == packed < plain / 10


async def test_an_agent_that_does_not_say_so_gets_plain_commands(server: RunningServer) -> None:
    async with server.agent() as agent:
        await server.queue(params=LARGE)
        message = await commands_message(agent)
        assert not message.gzip
        assert dict(message.commands.assignments[0].command.params.items()) == LARGE


async def test_small_commands_stay_plain_however_many_share_a_message(server: RunningServer) -> None:
    async with server.agent(accepts_gzip=True, capacity=20) as agent:
        await server.queue_many(20, params=SMALL)
        await agent.assigned(20)
        assert not any(message.gzip for message in agent.messages)


async def test_compressed_output_and_results_of_an_agent_are_stored(server: RunningServer) -> None:
    before = counted(server, "received_from_agents")
    async with server.agent() as agent:
        command_id = await server.queue()
        (assignment,) = await agent.assigned()
        await agent.start(assignment)
        request = pb.ConnectRequest(
            output=[
                pb.Output(command_id=command_id, lease_id=assignment.lease_id, stream=STDOUT, data=b"line\n" * 1_000)
            ],
            results=[result(assignment, output_bytes=5_000)],
        )
        request.results[0].data.struct_value.update(LARGE)
        await agent.send(gzip=gzip.compress(request.SerializeToString()))
        stored = await server.result(command_id)
        assert stored.status == COMPLETED
        assert stored.output_bytes == 5_000
        assert dict(stored.data.struct_value.items()) == LARGE
        plain, packed = (now - then for now, then in zip(counted(server, "received_from_agents"), before, strict=True))
        assert plain == request.ByteSize() > packed > 0


async def test_a_server_with_compression_off_neither_compresses_nor_asks_for_it(valkey_url: str) -> None:
    async with running_server(valkey_url, compression="off") as server, server.agent(accepts_gzip=True) as agent:
        assert not agent.welcome.accepts_gzip
        await server.queue(params=LARGE)
        (assignment,) = await agent.assigned()
        request = pb.ConnectRequest(results=[result(assignment)])
        # It understands it nevertheless.
        await agent.send(gzip=gzip.compress(request.SerializeToString()))
        await agent.until(lambda: agent.result_acks)
        response = await server.commands.GetCommand(
            wire.GetCommandRequest(command_id=assignment.command.command_id, accepts_gzip=True)
        )
        assert response.HasField("command")


async def test_compression_threshold_is_where_it_begins(valkey_url: str) -> None:
    async with (
        running_server(valkey_url, compression_threshold=200_000) as server,
        server.agent(accepts_gzip=True) as agent,
    ):
        await server.queue(params=LARGE)
        assert not (await commands_message(agent)).gzip


@pytest.mark.parametrize(
    ("packed", "details"),
    [
        (BOMB, "gzip is too large: the data is more than 8,388,608 bytes when decompressed"),
        (BOMB[:-1], "gzip is too large"),
        (b"no gzip", "gzip cannot be decompressed: invalid gzip data"),
        (gzip.compress(b"no message"), "the request is not a valid protobuf message"),
    ],
    ids=["bomb", "cut bomb", "no gzip", "no message"],
)
async def test_what_cannot_be_decompressed_ends_the_stream(server: RunningServer, packed: bytes, details: str) -> None:
    async with server.agent() as agent:
        await agent.send(gzip=packed)
        assert await agent.ended() is grpc.StatusCode.INVALID_ARGUMENT
        assert agent.details.startswith(details)


# Callers


async def test_a_caller_that_accepts_it_gets_large_answers_compressed(server: RunningServer) -> None:
    async with server.agent() as agent:
        request = queue_request(params=LARGE)
        request.accepts_gzip = True
        queued = await server.commands.QueueCommand(request)
        assert queued.gzip
        assert not queued.HasField("command")
        plain = wire.QueueCommandResponse.FromString(gzip.decompress(queued.gzip))
        assert plain.accepts_gzip
        command_id = plain.command.command_id
        (assignment,) = await agent.assigned()
        await agent.start(assignment)
        await agent.print(assignment, b"line\n" * 1_000, 0)
        reported = result(assignment, output_bytes=5_000)
        reported.data.struct_value.update(LARGE)
        await agent.report(reported)

        got = await server.commands.GetCommand(wire.GetCommandRequest(command_id=command_id, accepts_gzip=True))
        command = wire.GetCommandResponse.FromString(gzip.decompress(got.gzip)).command
        assert dict(command.params.items()) == LARGE
        answer = await server.commands.GetResult(wire.GetResultRequest(command_id=command_id, accepts_gzip=True))
        data = wire.GetResultResponse.FromString(gzip.decompress(answer.gzip)).result.data
        assert dict(data.struct_value.items()) == LARGE
        watched = [
            wire.WatchCommandResponse.FromString(gzip.decompress(update.gzip)) if update.gzip else update
            async for update in watch(server, command_id, accepts_gzip=True)
        ]
        assert b"".join(update.output.data for update in watched) == b"line\n" * 1_000
        assert dict(watched[-1].result.data.struct_value.items()) == LARGE
        packed = [update.WhichOneof("update") async for update in watch(server, command_id, accepts_gzip=True)]
        # Of the large updates, the outer message has no update.
        assert packed.count(None) == 2
        assert None not in [update.WhichOneof("update") async for update in watch(server, command_id)]


async def watch(server: RunningServer, command_id: str, **changes: Any) -> AsyncIterator[wire.WatchCommandResponse]:
    async for update in server.commands.WatchCommand(wire.WatchCommandRequest(command_id=command_id, **changes)):
        yield update


async def test_a_compressed_request_is_queued(server: RunningServer) -> None:
    request = queue_request(params=LARGE)
    queued = await server.commands.QueueCommand(
        wire.QueueCommandRequest(gzip=gzip.compress(request.SerializeToString()))
    )
    assert dict(queued.command.params.items()) == LARGE
    batch = wire.QueueCommandsRequest(requests=[request, request])
    outcomes = await server.commands.QueueCommands(
        wire.QueueCommandsRequest(gzip=gzip.compress(batch.SerializeToString()))
    )
    assert outcomes.accepts_gzip
    assert all(outcome.command_id for outcome in outcomes.outcomes)


async def test_a_bomb_in_a_request_is_refused(server: RunningServer) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await server.commands.QueueCommands(wire.QueueCommandsRequest(gzip=BOMB))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


# gRPC's own compression, which any peer may use


async def test_grpcs_own_compression_is_accepted(server: RunningServer) -> None:
    queued = await server.commands.QueueCommand(queue_request(params=LARGE), compression=grpc.Compression.Gzip)
    assert dict(queued.command.params.items()) == LARGE


async def test_grpc_bounds_the_decompressed_size_of_its_own_compression(server: RunningServer) -> None:
    """G6: 64 MiB of params travel as 64 KiB, so only a limit on the decompressed size refuses them."""
    options = [option for option in channel_options() if option[0] != "grpc.max_send_message_length"]
    request = queue_request(params={"text": "x" * 8 * MAX_MESSAGE_BYTES})
    async with grpc.aio.insecure_channel(
        server.address, options=[*options, ("grpc.max_send_message_length", -1)], compression=grpc.Compression.Gzip
    ) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await CommandServiceStub(channel).QueueCommand(request)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "ecompressed message larger than max" in (refused.value.details() or "")
