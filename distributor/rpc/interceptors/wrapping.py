"""Wraps handlers for an interceptor: once per method, not once per call."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import grpc

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Any
"""A grpc.RpcMethodHandler; the stubs do not declare it as a named tuple."""


def short_name(method: str) -> str:
    """Return the name of a method without its service, for people. It does not identify a method."""
    return method.rpartition("/")[2]


class Interceptor:
    """Surrounds the calls of each method.

    Subclasses override what they need: `wrap_unary` for handlers that are awaited (unary calls, and streams that
    read and write through their context), `wrap_stream` for handlers that are iterated.
    """

    def wrap(self, method: str, handler: Handler) -> Handler:
        """Return the wrapped handler of a method; `method` is its full name, as `/package.Service/Method`."""
        changes: dict[str, Any] = {}
        if handler.request_deserializer is not None:
            changes["request_deserializer"] = self.deserializer(handler.request_deserializer)
        for kind in ("unary_unary", "unary_stream", "stream_stream"):
            behaviour = getattr(handler, kind)
            if behaviour is not None:
                # Stream handlers come in two kinds: some are iterated, others write through their context.
                iterated = inspect.isasyncgenfunction(behaviour)
                wrap = self.wrap_stream if iterated else self.wrap_unary
                changes[kind] = wrap(method, behaviour)
        return handler._replace(**changes)

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
