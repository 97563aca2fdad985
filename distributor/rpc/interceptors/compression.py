"""Decompresses requests, and compresses responses for callers that accept it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final

from distributor.rpc.interceptors.wrapping import Context, Interceptor
from distributor.rpc.unpacking import unpacked
from distributor.wire.message_packer import MessagePacker

COMPRESSED_REQUESTS: Final = frozenset(
    f"/distributor.v1.CommandService/{name}" for name in ("QueueCommand", "QueueCommands")
)
"""Calls whose requests may be compressed. Their responses say whether the server accepts that."""
COMPRESSED_RESPONSES: Final = frozenset(
    f"/distributor.v1.CommandService/{name}" for name in ("QueueCommand", "GetCommand", "GetResult", "WatchCommand")
)
"""Calls whose responses may carry params, results or output."""


class CompressionInterceptor(Interceptor):
    """Runs inside what admits calls: everything inside it sees plain requests, and errors of decompression."""

    def __init__(self, packer: MessagePacker) -> None:
        self._packer = packer

    def wrap_unary(self, method: str, behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        packs, unpacks = method in COMPRESSED_RESPONSES, method in COMPRESSED_REQUESTS
        if not packs and not unpacks:
            return behaviour

        async def call(request: Any, context: Context) -> Any:
            if unpacks and request.gzip:
                request = await unpacked(self._packer, request)
            response = await behaviour(request, context)
            if unpacks:
                response.accepts_gzip = self._packer.enabled
            return await self._packer.pack(response) if packs and request.accepts_gzip else response

        return call

    def wrap_stream(
        self, method: str, behaviour: Callable[..., AsyncGenerator[Any, None]]
    ) -> Callable[..., AsyncGenerator[Any, None]]:
        if method not in COMPRESSED_RESPONSES:
            return behaviour

        async def call(request: Any, context: Context) -> AsyncGenerator[Any, None]:
            async with aclosing(behaviour(request, context)) as responses:
                async for response in responses:
                    yield await self._packer.pack(response) if request.accepts_gzip else response

        return call
