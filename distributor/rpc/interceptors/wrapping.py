"""Wraps handlers for an interceptor: once per method, not once per call."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import grpc

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Any
"""A grpc.RpcMethodHandler; the stubs do not declare it as a named tuple."""


class HandlerWrapper(grpc.aio.ServerInterceptor):
    """Wraps the behaviour of each method on its first call and caches it.

    Subclasses override what they need: `wrap_unary` for handlers that are awaited (unary calls, and streams that
    read and write through their context), `wrap_stream` for handlers that are iterated.
    """

    def __init__(self) -> None:
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Return the wrapped handler of the called method."""
        method = handler_call_details.method
        try:
            return self._wrapped[method]
        except KeyError:
            handler = await continuation(handler_call_details)
            if handler is None:
                # Do not cache: callers choose the names, so the cache would grow without bound.
                return None
            wrapped = self._wrapped[method] = self._wrap(method, handler)
            return wrapped

    def wrap_unary(self, method: str, behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Override to wrap handlers that are awaited."""
        return behaviour

    def wrap_stream(
        self, method: str, behaviour: Callable[..., AsyncGenerator[Any, None]]
    ) -> Callable[..., AsyncGenerator[Any, None]]:
        """Override to wrap handlers that are iterated."""
        return behaviour

    def deserializer(self, deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        """Override to change how requests are parsed."""
        return deserialize

    def _wrap(self, method: str, handler: Handler) -> Handler:
        name = method.rpartition("/")[2]
        changes: dict[str, Any] = {}
        if handler.request_deserializer is not None:
            changes["request_deserializer"] = self.deserializer(handler.request_deserializer)
        for kind in ("unary_unary", "unary_stream", "stream_stream"):
            behaviour = getattr(handler, kind)
            if behaviour is not None:
                # Stream handlers come in two kinds: some are iterated, others write through their context.
                iterated = inspect.isasyncgenfunction(behaviour)
                wrap = self.wrap_stream if iterated else self.wrap_unary
                changes[kind] = wrap(name, behaviour)
        return handler._replace(**changes)
