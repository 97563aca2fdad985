"""Bounds the number of calls under way: what comes beyond is refused, so that memory is bounded whatever callers do.

gRPC's own `maximum_concurrent_rpcs` is unreliable with asyncio (grpc#41531).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final

from distributor.errors import ResourceExhausted
from distributor.rpc.interceptors.wrapping import Context, HandlerWrapper

EXEMPT: Final = frozenset({"Connect", "Check"})
"""Agents are bounded by `max_agents`, and health must answer above all when there is too much to do."""


class AdmissionInterceptor(HandlerWrapper):
    """Counts calls, and raises ResourceExhausted beyond `most`. Sits inside the one that turns errors into status."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
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
        if self._under_way >= self._most:
            raise ResourceExhausted(
                f"{self._most:,} calls are under way already, the limit (max_calls)",
                reason="TOO_MANY_CALLS",
                retry_after_seconds=0.5,
            )
        self._under_way += 1
