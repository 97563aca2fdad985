"""Limits concurrent calls and refuses the excess, so that memory stays bounded under any load.

gRPC's own `maximum_concurrent_rpcs` is unreliable with asyncio (grpc#41531).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final

from distributor.errors import ResourceExhausted
from distributor.rpc.interceptors.wrapping import Context, HandlerWrapper

EXEMPT: Final = frozenset({"Connect", "Check"})
"""Agents are limited by `max_agents`; health checks must answer especially under overload."""


class AdmissionInterceptor(HandlerWrapper):
    """Counts calls; raises ResourceExhausted beyond `max_calls`. Runs inside the interceptor that converts errors."""

    def __init__(self, max_calls: int) -> None:
        super().__init__()
        self._max_calls = max_calls
        self._under_way = 0

    def wrap_unary(self, method: str, behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        if method in EXEMPT:
            return behaviour

        async def call(request: Any, context: Context) -> Any:
            self._admit()
            try:
                return await behaviour(request, context)
            finally:
                self._under_way -= 1

        return call

    def wrap_stream(
        self, method: str, behaviour: Callable[..., AsyncGenerator[Any, None]]
    ) -> Callable[..., AsyncGenerator[Any, None]]:
        async def call(request: Any, context: Context) -> AsyncGenerator[Any, None]:
            self._admit()
            try:
                async with aclosing(behaviour(request, context)) as responses:
                    async for response in responses:
                        yield response
            finally:
                self._under_way -= 1

        return call

    def _admit(self) -> None:
        if self._under_way >= self._max_calls:
            raise ResourceExhausted(
                f"{self._max_calls:,} calls are already in progress, the limit (max_calls)",
                reason="TOO_MANY_CALLS",
                retry_after_seconds=0.5,
            )
        self._under_way += 1
