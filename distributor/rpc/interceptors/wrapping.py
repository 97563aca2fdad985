"""How an interceptor wraps handlers: once for each method, not once for each call."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import grpc

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Any
"""A grpc.RpcMethodHandler: a named tuple whose stubs do not say so."""


class HandlerWrapper(grpc.aio.ServerInterceptor):
    """Wraps the behaviour of each method the first time it is called, and keeps what came of it.

    Subclasses override what concerns them: `wrap_unary` for handlers that are awaited (unary calls, and streams that
    read and write through their context), `wrap_stream` for those that are iterated.
    """

    def __init__(self) -> None:
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The wrapped handler of the method that is called."""
        method = handler_call_details.method
        try:
            return self._wrapped[method]
        except KeyError:
            handler = await continuation(handler_call_details)
            if handler is None:
                # Not remembered: names come from callers, and there is no end to them.
                return None
            wrapped = self._wrapped[method] = self._wrap(method, handler)
            return wrapped

    def wrap_unary(self, method: str, behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Override to surround handlers that are awaited."""
        return behaviour

    def wrap_stream(
        self, method: str, behaviour: Callable[..., AsyncGenerator[Any, None]]
    ) -> Callable[..., AsyncGenerator[Any, None]]:
        """Override to surround handlers that are iterated."""
        return behaviour

    def deserializer(self, deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        """Override to change how requests are read."""
        return deserialize

    def _wrap(self, method: str, handler: Handler) -> Handler:
        name = method.rpartition("/")[2]
        changes: dict[str, Any] = {}
        if handler.request_deserializer is not None:
            changes["request_deserializer"] = self.deserializer(handler.request_deserializer)
        for kind in ("unary_unary", "unary_stream", "stream_stream"):
            behaviour = getattr(handler, kind)
            if behaviour is not None:
                # Handlers that answer with a stream come in two kinds: some are iterated, some write themselves.
                iterated = inspect.isasyncgenfunction(behaviour)
                wrap = self.wrap_stream if iterated else self.wrap_unary
                changes[kind] = wrap(name, behaviour)
        return handler._replace(**changes)
