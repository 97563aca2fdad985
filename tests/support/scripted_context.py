"""An in-memory server side of an agent's stream."""

from __future__ import annotations

import asyncio
from typing import Any, Never

import grpc

from distributor.v1 import agent_gateway_pb2 as pb


def unused() -> Never:
    """Stands where a stream of an agent asks for nothing."""
    raise AssertionError("a stream of an agent only reads, writes and aborts")


class ScriptedContext(grpc.aio.ServicerContext[Any, pb.ConnectResponse]):
    """Reads what a test says, keeps what is written. While it is `deaf`, writes wait."""

    def __init__(self, *requests: pb.ConnectRequest) -> None:
        self.written: list[pb.ConnectResponse] = []
        self.aborted: tuple[grpc.StatusCode, str] | None = None
        self._requests: asyncio.Queue[Any] = asyncio.Queue()
        self._hears = asyncio.Event()
        self._hears.set()
        for request in requests:
            self.say(request)

    def say(self, request: pb.ConnectRequest) -> None:
        self._requests.put_nowait(request)

    def half_close(self) -> None:
        self._requests.put_nowait(grpc.aio.EOF)

    def fail(self, error: Exception) -> None:
        """Have a read fail."""
        self._requests.put_nowait(error)

    @property
    def unread(self) -> int:
        return self._requests.qsize()

    @property
    def deaf(self) -> bool:
        return not self._hears.is_set()

    @deaf.setter
    def deaf(self, deaf: bool) -> None:
        (self._hears.clear if deaf else self._hears.set)()

    async def read(self) -> Any:
        request = await self._requests.get()
        if isinstance(request, Exception):
            raise request
        return request

    async def write(self, message: pb.ConnectResponse) -> None:
        await self._hears.wait()
        self.written.append(message)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> Never:
        await self._hears.wait()
        self.aborted = (code, details)
        self.half_close()
        raise grpc.aio.AbortError

    # Whatever else a context has to offer

    async def abort_with_status(self, status: Any) -> Never:
        unused()

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        unused()

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        unused()

    def invocation_metadata(self) -> Never:
        unused()

    def set_code(self, code: grpc.StatusCode) -> None:
        unused()

    def set_details(self, details: str) -> None:
        unused()

    def set_compression(self, compression: grpc.Compression) -> None:
        unused()

    def disable_next_message_compression(self) -> None:
        unused()

    def peer(self) -> str:
        return "memory"

    def peer_identities(self) -> Never:
        unused()

    def peer_identity_key(self) -> Never:
        unused()

    def auth_context(self) -> Never:
        unused()
