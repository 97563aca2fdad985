"""Answers health checks, of one service or of all."""

from __future__ import annotations

from typing import Any, Final

from grpc_health.v1 import health, health_pb2

from distributor.rpc.interceptors.wrapping import Context

_MESSAGES: Final[Any] = health_pb2
"""Its stubs are older than List."""


class HealthServicer(health.aio.HealthServicer):
    """gRPC's own, which does not implement List."""

    def __init__(self) -> None:
        super().__init__()
        self._latest: dict[str, Any] = {}

    async def set(self, service: str, status: Any) -> None:
        """Set the status of a service."""
        self._latest[service] = status
        await super().set(service, status)

    async def List(self, request: Any, context: Context) -> Any:
        """The status of each service."""
        answer = _MESSAGES.HealthListResponse()
        for service, status in self._latest.items():
            answer.statuses[service].status = status
        return answer
