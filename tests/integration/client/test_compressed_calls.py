"""Which calls of the client travel compressed, and what it does with a server that does not know of it."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from distributor.client import ClientOptions, CommandClient, CommandRequest, Compression
from distributor.errors import DistributorError
from distributor.v1 import command_pb2
from distributor.v1 import command_service_pb2 as wire
from distributor.v1.command_service_pb2_grpc import CommandServiceServicer, add_CommandServiceServicer_to_server

LARGE = {"text": "all work and no play makes Jack a dull boy " * 2_000}


class ScriptedService(CommandServiceServicer):
    """Records the requests as they were on the wire. `knows_gzip` is False for an older server."""

    def __init__(self) -> None:
        self.knows_gzip = True
        self.requests: list[Any] = []
        self.response: wire.GetResultResponse | None = None

    async def QueueCommand(self, request: wire.QueueCommandRequest, context: Any) -> wire.QueueCommandResponse:
        self.requests.append(request)
        if request.gzip and self.knows_gzip:
            request = wire.QueueCommandRequest.FromString(gzip.decompress(request.gzip))
        if not request.HasField("command"):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "command is missing")
        state = command_pb2.CommandState(status=command_pb2.COMMAND_STATUS_QUEUED)
        response = wire.QueueCommandResponse(command=request.command, state=state, accepts_gzip=self.knows_gzip)
        if request.accepts_gzip and self.knows_gzip:
            return wire.QueueCommandResponse(gzip=gzip.compress(response.SerializeToString()))
        return response

    async def QueueCommands(self, request: wire.QueueCommandsRequest, context: Any) -> wire.QueueCommandsResponse:
        self.requests.append(request)
        if request.gzip and self.knows_gzip:
            request = wire.QueueCommandsRequest.FromString(gzip.decompress(request.gzip))
        outcomes = [wire.QueueCommandOutcome(command_id=str(place)) for place in range(len(request.requests))]
        return wire.QueueCommandsResponse(outcomes=outcomes, accepts_gzip=self.knows_gzip)

    async def GetResult(self, request: wire.GetResultRequest, context: Any) -> wire.GetResultResponse:
        self.requests.append(request)
        return self.response or wire.GetResultResponse()


def scripted() -> ScriptedService:
    return ScriptedService()  # type: ignore[abstract]  # what it has not, gRPC refuses as unimplemented


@asynccontextmanager
async def client_of(service: ScriptedService, compression: Compression) -> AsyncIterator[CommandClient]:
    server = grpc.aio.server()
    add_CommandServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with CommandClient(f"127.0.0.1:{port}", ClientOptions(compression=compression)) as client:
            yield client
    finally:
        await server.stop(0)


async def test_large_params_are_compressed_once_the_server_has_said_that_it_accepts_it() -> None:
    service = scripted()
    async with client_of(service, Compression()) as client:
        for _ in range(2):
            queued = await client.queue(CommandRequest("a1", "PRINT", LARGE))
            assert queued.command.params == LARGE
        first, second = service.requests
        assert not first.gzip
        assert first.accepts_gzip
        assert 0 < len(second.gzip) < 1_000
        await client.queue_many([CommandRequest("a1", "PRINT", LARGE)] * 2)
        assert service.requests[2].gzip
        await client.queue_many([CommandRequest("a1", "PRINT", {"n": n}) for n in range(100)])
        assert not service.requests[3].gzip, "small commands are compressed because they are many"


async def test_a_client_with_compression_off_neither_compresses_nor_asks_for_it() -> None:
    service = scripted()
    async with client_of(service, Compression(enabled=False)) as client:
        for _ in range(2):
            await client.queue(CommandRequest("a1", "PRINT", LARGE))
        assert not any(request.gzip or request.accepts_gzip for request in service.requests)


async def test_an_older_server_after_a_newer_one_gets_the_request_again_plain() -> None:
    service = scripted()
    async with client_of(service, Compression()) as client:
        await client.queue(CommandRequest("a1", "PRINT", LARGE))
        service.knows_gzip = False
        assert (await client.queue(CommandRequest("a1", "PRINT", LARGE))).command.params == LARGE
        assert [bool(request.gzip) for request in service.requests] == [False, True, False]
        await client.queue(CommandRequest("a1", "PRINT", LARGE))
        assert not service.requests[-1].gzip

        service.knows_gzip = True
        await client.queue(CommandRequest("a1", "PRINT", LARGE))
        service.knows_gzip = False
        outcomes = await client.queue_many([CommandRequest("a1", "PRINT", LARGE)] * 2)
        assert len(outcomes) == 2


@pytest.mark.parametrize("packed", [gzip.compress(bytes(20 * 1024 * 1024)), b"no gzip"], ids=["bomb", "no gzip"])
async def test_a_response_that_cannot_be_decompressed_is_an_error(packed: bytes) -> None:
    service = scripted()
    service.response = wire.GetResultResponse(gzip=packed)
    async with client_of(service, Compression()) as client:
        with pytest.raises(DistributorError, match="the server's response cannot be read") as raised:
            await client.result("01980000-0000-7000-8000-000000000000")
        assert raised.value.reason == "MALFORMED_MESSAGE"
