"""Limits concurrent calls and refuses the excess, so that memory stays bounded under any load.

gRPC's own `maximum_concurrent_rpcs` is unreliable with asyncio (grpc#41531).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from distributor.errors import ResourceExhausted
from distributor.rpc.current_caller import current_caller

EXEMPT: Final = frozenset({"/distributor.v1.AgentGatewayService/Connect", "/grpc.health.v1.Health/Check"})
"""Agents are limited by `max_agents`; health checks must answer especially under overload."""
URGENT: Final = frozenset(
    {
        "/distributor.v1.EmergencyService/Stop",
        "/distributor.v1.EmergencyService/Resume",
        "/distributor.v1.CredentialService/RevokeAgent",
        "/distributor.v1.CredentialService/RevokeToken",
        "/distributor.v1.CredentialService/RevokeService",
    }
)
"""Calls that may end an overload have a limit of their own."""
MAX_URGENT_CALLS: Final = 100


class CallLimit:
    """Counts calls in progress: all of them, and those of each caller. Use on one event loop."""

    def __init__(self, max_calls: int) -> None:
        """A known caller may have half of `max_calls` in progress, so that no caller keeps out the others."""
        self._max_calls = max_calls
        self._of_one = max(1, max_calls // 2)
        self._under_way = 0
        self._callers: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._callers)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Count a call of the current caller. Raises ResourceExhausted beyond a limit."""
        if self._under_way >= self._max_calls:
            raise _too_many(f"{self._max_calls:,} calls are already in progress, the limit")
        caller = current_caller()
        # By name: the end of a call may run where the current caller is not known.
        name = caller.principal if caller.known else ""
        if name and self._callers[name] >= self._of_one:
            raise _too_many(f"{caller} has {self._of_one:,} calls in progress, half of the limit")
        self._under_way += 1
        self._callers[name] += 1
        try:
            yield
        finally:
            self._under_way -= 1
            self._callers[name] -= 1
            if not self._callers[name]:
                del self._callers[name]


def _too_many(what: str) -> ResourceExhausted:
    return ResourceExhausted(f"{what} (max_calls)", reason="TOO_MANY_CALLS", retry_after_seconds=0.5)
