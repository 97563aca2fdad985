"""The methods that the server answers, by name, as one generic handler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import grpc

from distributor.rpc.interceptors.wrapping import Handler, Interceptor

S = TypeVar("S")
"""A servicer."""


class MethodTable(grpc.GenericRpcHandler):
    """Resolves calls to handlers, which it wraps once, when they are registered.

    grpc.aio itself would ask each interceptor again on every call, and wait for the next call with one future per
    registered method, so that each call adds and removes as many callbacks as there are methods.
    """

    def __init__(self, interceptors: Sequence[Interceptor]) -> None:
        """`interceptors` are in order, the outermost first."""
        self._interceptors = interceptors
        self._handlers: dict[str, Handler] = {}

    @property
    def names(self) -> frozenset[str]:
        """The full names of the methods that are served."""
        return frozenset(self._handlers)

    def add(self, add_to_server: Callable[[S, Any], None], servicer: S) -> None:
        """Add the methods of a servicer; `add_to_server` is the generated function for its service."""
        add_to_server(servicer, self)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """Return the handler of the called method, or None if it does not exist."""
        return self._handlers.get(handler_call_details.method)

    # What generated code calls on a server

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[object]) -> None:
        """Ignore these: generated code registers the same handlers by their names."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Handler]) -> None:
        """Wrap and add the methods of a service; `method_handlers` has them by their short names."""
        for name, handler in method_handlers.items():
            method = f"/{service_name}/{name}"
            for interceptor in reversed(self._interceptors):
                handler = interceptor.wrap(method, handler)
            self._handlers[method] = handler
