"""Counts calls, commands and streams of each caller, before they are served."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final

from distributor.dispatch.caller_limits import CallerLimits
from distributor.identity.caller import Caller
from distributor.rpc.current_caller import current_caller, host_of
from distributor.rpc.interceptors.admission import EXEMPT
from distributor.rpc.interceptors.wrapping import Context, Interceptor
from distributor.v1 import command_service_pb2 as pb

_UNLIMITED: Final = ("/distributor.v1.AgentGatewayService/", "/distributor.v1.EmergencyService/")
"""Agents have limits of their own, and calls that end an overload must not wait for its end."""


class CallerLimitInterceptor(Interceptor):
    """Runs inside what admits callers and decompresses requests."""

    def __init__(self, limits: CallerLimits) -> None:
        self._limits = limits

    def wrap_unary(self, method: str, behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        if method in EXEMPT or method.startswith(_UNLIMITED):
            return behaviour

        def call(request: Any, context: Context) -> Awaitable[Any]:
            caller, address = _who(context)
            self._limits.check_call(caller, address)
            commands = commands_in(request)
            if commands:
                self._limits.check_commands(caller, address, commands)
            return behaviour(request, context)

        return call

    def wrap_stream(
        self, method: str, behaviour: Callable[..., AsyncGenerator[Any, None]]
    ) -> Callable[..., AsyncGenerator[Any, None]]:
        if method in EXEMPT or method.startswith(_UNLIMITED):
            return behaviour

        async def call(request: Any, context: Context) -> AsyncGenerator[Any, None]:
            caller, address = _who(context)
            self._limits.check_call(caller, address)
            with self._limits.stream(caller, address):
                async with aclosing(behaviour(request, context)) as responses:
                    async for response in responses:
                        yield response

        return call


def commands_in(request: object) -> int:
    """How many commands a request may queue."""
    match request:
        case pb.QueueCommandRequest():
            return 1
        case pb.QueueCommandsRequest():
            return len(request.requests)
        case pb.RetryCommandsRequest():
            return 0 if request.dry_run else max(1, len(request.command_ids), request.limit)
        case _:
            return 0


def _who(context: Context) -> tuple[Caller, str]:
    """The caller, and the address that identifies it if it is unknown."""
    caller = current_caller()
    return caller, "" if caller.known else host_of(context.peer())
