"""Limits concurrent calls and refuses the excess, so that memory stays bounded under any load.

gRPC's own `maximum_concurrent_rpcs` is unreliable with asyncio (grpc#41531).
"""

from __future__ import annotations

from typing import Final

from distributor.errors import ResourceExhausted

EXEMPT: Final = frozenset({"/distributor.v1.AgentGatewayService/Connect", "/grpc.health.v1.Health/Check"})
"""Agents are limited by `max_agents`; health checks must answer especially under overload."""


class CallLimit:
    """Counts the calls inside its `with` blocks. Raises ResourceExhausted beyond `max_calls`."""

    def __init__(self, max_calls: int) -> None:
        self._max_calls = max_calls
        self._under_way = 0

    def __enter__(self) -> None:
        if self._under_way >= self._max_calls:
            raise ResourceExhausted(
                f"{self._max_calls:,} calls are already in progress, the limit (max_calls)",
                reason="TOO_MANY_CALLS",
                retry_after_seconds=0.5,
            )
        self._under_way += 1

    def __exit__(self, *_: object) -> None:
        self._under_way -= 1
