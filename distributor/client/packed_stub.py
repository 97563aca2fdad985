"""The stub of CommandService, with requests compressed if the server accepts it, and responses decompressed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

import grpc
from google.protobuf.message import DecodeError

from distributor.errors import DistributorError
from distributor.v1 import command_service_pb2 as wire
from distributor.wire.compression import CorruptGzip, GzipTooLarge
from distributor.wire.message_packer import MessagePacker

if TYPE_CHECKING:
    from distributor.v1.command_service_pb2_grpc import CommandServiceAsyncStub

Call = Callable[..., Awaitable[Any]]


def packed_stub(stub: CommandServiceAsyncStub, packer: MessagePacker) -> CommandServiceAsyncStub:
    """Return a stub with the methods of `stub`."""
    return cast("CommandServiceAsyncStub", _PackedStub(stub, packer))


class _PackedStub:
    """Compresses no request before a response has said that the server accepts it."""

    def __init__(self, stub: CommandServiceAsyncStub, packer: MessagePacker) -> None:
        self._packer = packer
        self._server_accepts = False
        self.QueueCommand = self._sender(stub.QueueCommand)
        self.QueueCommands = self._sender(stub.QueueCommands)
        self.GetCommand = self._receiver(stub.GetCommand)
        self.GetResult = self._receiver(stub.GetResult)
        self.CancelCommand = stub.CancelCommand
        self.RetryCommands = stub.RetryCommands
        self.ListCommands = stub.ListCommands
        self.ListAgents = stub.ListAgents
        self.GetAgent = stub.GetAgent
        self.WatchCommands = stub.WatchCommands
        self._watch_command = stub.WatchCommand

    def WatchCommand(self, request: wire.WatchCommandRequest, *, timeout: float | None = None) -> PackedWatch:
        request.accepts_gzip = self._packer.enabled
        return PackedWatch(self._watch_command(request, timeout=timeout), self._packer)

    def _sender(self, method: Call) -> Call:
        async def call(request: Any, *, timeout: float | None = None) -> Any:
            parts = 1
            if isinstance(request, wire.QueueCommandsRequest):
                parts = max(1, len(request.requests))
            else:
                request.accepts_gzip = self._packer.enabled
            packed = await self._packer.pack(request, parts) if self._server_accepts else request
            response = await _accepted(method, packed, timeout) if packed is not request else None
            if response is None:
                response = await method(request, timeout=timeout)
            response = await _unpacked(self._packer, response)
            self._server_accepts = response.accepts_gzip
            return response

        return call

    def _receiver(self, method: Call) -> Call:
        async def call(request: Any, *, timeout: float | None = None) -> Any:
            request.accepts_gzip = self._packer.enabled
            return await _unpacked(self._packer, await method(request, timeout=timeout))

        return call


class PackedWatch:
    """A running WatchCommand call. Iterate it once."""

    def __init__(self, call: Any, packer: MessagePacker) -> None:
        self._call = call
        self._messages = aiter(call)
        self._packer = packer

    # Not a generator: one that is left early would need a task of its own to end.
    def __aiter__(self) -> AsyncIterator[wire.WatchCommandResponse]:
        return self

    async def __anext__(self) -> wire.WatchCommandResponse:
        response: wire.WatchCommandResponse = await _unpacked(self._packer, await anext(self._messages))
        return response

    def cancel(self) -> None:
        """End the call."""
        self._call.cancel()


async def _accepted(method: Call, packed: Any, timeout: float | None) -> Any:
    """Return the response to a compressed request; None from an older server, which takes the request for empty."""
    try:
        response = await method(packed, timeout=timeout)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
            return None
        raise
    return response if response.ListFields() else None


async def _unpacked(packer: MessagePacker, response: Any) -> Any:
    if not getattr(response, "gzip", b""):
        return response
    try:
        return await packer.unpack(response, type(response).FromString)
    except (GzipTooLarge, CorruptGzip, DecodeError, UnicodeDecodeError) as error:
        raise DistributorError(f"the server's response cannot be read: {error}", reason="MALFORMED_MESSAGE") from error
