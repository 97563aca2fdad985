"""Converts errors to status, and malformed requests to errors."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc

from distributor.errors import DistributorError
from distributor.observability.logging import get_logger
from distributor.rpc.interceptors.wrapping import Context, HandlerWrapper
from distributor.rpc.malformed import Malformed, tolerant
from distributor.rpc.status import to_grpc

logger = get_logger()

_UNEXPECTED = DistributorError("internal error; see the server's log", reason="INTERNAL")


class ErrorInterceptor(HandlerWrapper):
    """The only place where our errors become gRPC status. Unexpected errors are logged and returned as INTERNAL."""

    def wrap_unary(self, method: str, behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(request: Any, context: Context) -> Any:
            try:
                if isinstance(request, Malformed):
                    raise request.error
                return await behaviour(request, context)
            except Exception as error:  # noqa: BLE001 - the caller always gets a status
                await self._abort(method, error, context)

        return call

    def wrap_stream(
        self, method: str, behaviour: Callable[..., AsyncGenerator[Any, None]]
    ) -> Callable[..., AsyncGenerator[Any, None]]:
        async def call(request: Any, context: Context) -> AsyncGenerator[Any, None]:
            try:
                if isinstance(request, Malformed):
                    raise request.error
                async with aclosing(behaviour(request, context)) as responses:
                    async for response in responses:
                        yield response
            except Exception as error:  # noqa: BLE001 - the caller always gets a status
                await self._abort(method, error, context)

        return call

    def deserializer(self, deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        return tolerant(deserialize)

    async def _abort(self, method: str, error: Exception, context: Context) -> None:
        if isinstance(error, grpc.aio.AbortError):
            raise error
        if not isinstance(error, DistributorError):
            logger.error("a call failed unexpectedly", method=method, exc_info=error)
            error = _UNEXPECTED
        elif error.code == "INTERNAL":
            logger.error("a call failed", method=method, error=str(error))
        await context.abort(*to_grpc(error))
