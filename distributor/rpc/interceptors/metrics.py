"""Counts and times calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import grpc

from distributor.observability.metrics import Metrics
from distributor.rpc.interceptors.wrapping import Context, HandlerWrapper

_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


class MetricsInterceptor(HandlerWrapper):
    """Records method, code and duration of each call. Outermost, so that it sees the code that callers see."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics

    def wrap_unary(self, method: str, behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(request: Any, context: Context) -> Any:
            with self._observed(method, context):
                return await behaviour(request, context)

        return call

    def wrap_stream(
        self, method: str, behaviour: Callable[..., AsyncGenerator[Any, None]]
    ) -> Callable[..., AsyncGenerator[Any, None]]:
        async def call(request: Any, context: Context) -> AsyncGenerator[Any, None]:
            with self._observed(method, context):
                async with aclosing(behaviour(request, context)) as responses:
                    async for response in responses:
                        yield response

        return call

    @contextmanager
    def _observed(self, method: str, context: Context) -> Iterator[None]:
        begun = time.perf_counter()
        code = ""
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            # The caller gave up and got no code from the server.
            code = "CANCELLED"
            raise
        finally:
            self._metrics.rpc_finished(method, code or _code(context), time.perf_counter() - begun)


def _code(context: Context) -> str:
    code = context.code()
    return _NAMES.get(code if isinstance(code, int) else code.value[0], "UNKNOWN") if code is not None else "OK"
