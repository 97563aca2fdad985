from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from distributor.rpc.interceptors.admission import EXEMPT, URGENT
from distributor.rpc.interceptors.compression import COMPRESSED_REQUESTS, COMPRESSED_RESPONSES
from distributor.rpc.interceptors.wrapping import Interceptor
from distributor.rpc.method_table import MethodTable
from distributor.v1 import agent_gateway_pb2, command_service_pb2, credentials_pb2, emergency_pb2
from distributor.v1.agent_gateway_pb2_grpc import (
    AgentGatewayServiceServicer,
    add_AgentGatewayServiceServicer_to_server,
)


@dataclass
class Called:
    """What grpc says about a call."""

    method: str
    invocation_metadata: Any = ()


class Noting(Interceptor):
    """Notes each method that it wraps, and each call."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self.name = name
        self.notes = notes

    def wrap_unary(self, method: str, behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        self.notes.append(f"{self.name} wraps {method}")

        async def call(request: Any, context: Any) -> Any:
            self.notes.append(f"{self.name} called")
            return await behaviour(request, context)

        return call


class Gateway(AgentGatewayServiceServicer):
    async def Connect(self, request_iterator: Any, context: Any) -> Any:  # type: ignore[override]
        return context


def connect(methods: MethodTable) -> Any:
    return methods.service(Called("/distributor.v1.AgentGatewayService/Connect"))


async def test_handlers_are_wrapped_once_the_first_interceptor_outermost() -> None:
    notes: list[str] = []
    methods = MethodTable([Noting("outer", notes), Noting("inner", notes)])
    methods.add(add_AgentGatewayServiceServicer_to_server, Gateway())
    assert notes == [
        "inner wraps /distributor.v1.AgentGatewayService/Connect",
        "outer wraps /distributor.v1.AgentGatewayService/Connect",
    ]
    assert connect(methods) is connect(methods)
    assert await connect(methods).stream_stream(None, "the context") == "the context"
    assert notes[2:] == ["outer called", "inner called"]


def test_a_method_that_does_not_exist_has_no_handler() -> None:
    methods = MethodTable([])
    methods.add(add_AgentGatewayServiceServicer_to_server, Gateway())
    assert methods.service(Called("/distributor.v1.AgentGatewayService/NoSuchMethod")) is None


@pytest.mark.parametrize("names", [EXEMPT, URGENT, COMPRESSED_REQUESTS, COMPRESSED_RESPONSES])
def test_methods_are_named_in_full_as_they_are_served(names: frozenset[str]) -> None:
    served = {
        f"/{service.full_name}/{method.name}"
        for file in (agent_gateway_pb2, command_service_pb2, credentials_pb2, emergency_pb2, health_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert names <= served
