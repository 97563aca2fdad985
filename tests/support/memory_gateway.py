"""A scripted gateway without a network: streams are queues, for agents in the same event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
from grpc import aio

from distributor.conformance.scripted_gateway import ScriptedGateway
from distributor.v1 import agent_gateway_pb2 as pb

Trailing = Iterable[tuple[str, bytes]]


@dataclass
class StreamEnded(Exception):
    """What an agent reads at the end of its stream."""

    code: grpc.StatusCode
    details: str = ""
    trailing: Trailing = ()


class MemoryStream:
    """One stream: the agent's side. `context` is the server's."""

    def __init__(self) -> None:
        self.to_server: asyncio.Queue[Any] = asyncio.Queue()
        self.to_agent: asyncio.Queue[pb.ConnectResponse | StreamEnded] = asyncio.Queue()
        self.over = False
        self.context = MemoryContext(self)

    def send(self, message: pb.ConnectRequest) -> None:
        """Send a message; lost if the stream is over."""
        if not self.over:
            self.to_server.put_nowait(pb.ConnectRequest.FromString(message.SerializeToString()))

    def half_close(self) -> None:
        """Send nothing more."""
        self.to_server.put_nowait(aio.EOF)

    def cancel(self) -> None:
        """Drop the stream."""
        self.end(StreamEnded(grpc.StatusCode.CANCELLED))

    async def read(self) -> pb.ConnectResponse:
        """The next message. Raises StreamEnded at the end."""
        message = await self.to_agent.get()
        if isinstance(message, StreamEnded):
            raise message
        return message

    def end(self, status: StreamEnded) -> None:
        """End both directions."""
        if not self.over:
            self.over = True
            self.to_agent.put_nowait(status)
            self.half_close()


class MemoryContext:
    """The server's side of a stream, as far as the kit uses that of gRPC."""

    def __init__(self, stream: MemoryStream) -> None:
        self._stream = stream

    async def read(self) -> Any:
        """The agent's next message, EOF at its end."""
        return await self._stream.to_server.get()

    async def write(self, message: pb.ConnectResponse) -> None:
        """Send a message. Raises what gRPC raises once the stream is over."""
        if self._stream.over:
            raise asyncio.InvalidStateError("RPC already finished.")
        self._stream.to_agent.put_nowait(pb.ConnectResponse.FromString(message.SerializeToString()))

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing: Trailing = ()) -> None:
        """End the stream with a status."""
        self._stream.end(StreamEnded(code, details, trailing))
        raise aio.AbortError


class MemoryGateway(ScriptedGateway):
    """A scripted gateway that agents reach by `connect`."""

    def __init__(self, patience: float) -> None:
        super().__init__(0, patience=patience)
        self.make_stream: Callable[[], MemoryStream] = MemoryStream
        self.ready = asyncio.Event()
        """Set while a connection and a health check would succeed."""
        self._listening = False
        self._streams: list[MemoryStream] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Let agents connect."""
        self._listening = True
        self.ready.set()

    async def stop(self) -> None:
        """Cut every stream, and let none connect."""
        self._listening = False
        self.ready.clear()
        for stream in self._streams:
            stream.end(StreamEnded(grpc.StatusCode.UNAVAILABLE, "connection reset"))

    async def set_serving(self, serving: bool) -> None:
        """Set what health checks report."""
        if serving:
            self.ready.set()
        else:
            self.ready.clear()

    def connect(self) -> MemoryStream | None:
        """A new stream, None while nothing listens."""
        if not self._listening:
            return None
        stream = self.make_stream()
        self._streams.append(stream)
        task = asyncio.create_task(self._serve(stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return stream

    async def _serve(self, stream: MemoryStream) -> None:
        with suppress(aio.AbortError):
            await self.Connect(None, stream.context)
        stream.end(StreamEnded(grpc.StatusCode.OK))
