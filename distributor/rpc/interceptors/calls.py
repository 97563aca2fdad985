"""Surrounds each call with what all calls need, in one coroutine: measuring, errors, limit."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, nullcontext
from typing import Any

from distributor.observability.metrics import Metrics
from distributor.rpc.interceptors.admission import EXEMPT, CallLimit
from distributor.rpc.interceptors.errors import abort
from distributor.rpc.interceptors.metrics import MeasuredCall
from distributor.rpc.interceptors.wrapping import Context, Interceptor
from distributor.rpc.malformed import Malformed, tolerant


class CallInterceptor(Interceptor):
    """Measures calls with the code that callers see, turns errors into status, and limits how many calls run.

    A wrapper for each of these would cost every message of every call a coroutine step more.
    """

    def __init__(self, metrics: Metrics, limit: CallLimit) -> None:
        self._metrics = metrics
        self._limit = limit

    def wrap_unary(self, method: str, behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        metrics, limit = self._metrics, self._limit_of(method)

        async def call(request: Any, context: Context) -> Any:
            with MeasuredCall(metrics, method, context):
                try:
                    if isinstance(request, Malformed):
                        raise request.error
                    with limit:
                        return await behaviour(request, context)
                except Exception as error:  # noqa: BLE001 - the caller always gets a status
                    await abort(method, error, context)

        return call

    def wrap_stream(
        self, method: str, behaviour: Callable[..., AsyncGenerator[Any, None]]
    ) -> Callable[..., AsyncGenerator[Any, None]]:
        metrics, limit = self._metrics, self._limit_of(method)

        async def call(request: Any, context: Context) -> AsyncGenerator[Any, None]:
            with MeasuredCall(metrics, method, context):
                try:
                    if isinstance(request, Malformed):
                        raise request.error
                    with limit:
                        async with aclosing(behaviour(request, context)) as responses:
                            async for response in responses:
                                yield response
                except Exception as error:  # noqa: BLE001 - the caller always gets a status
                    await abort(method, error, context)

        return call

    def deserializer(self, deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        return tolerant(deserialize)

    def _limit_of(self, method: str) -> CallLimit | nullcontext[None]:
        return nullcontext() if method in EXEMPT else self._limit
