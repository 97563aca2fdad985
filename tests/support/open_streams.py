"""Opens a stream of each streaming method that a server answers, and keeps it open."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from distributor.v1 import agent_gateway_pb2, audit_pb2, command_service_pb2, emergency_pb2
from distributor.v1.command_service_pb2_grpc import CommandServiceStub
from distributor.v1.emergency_pb2_grpc import EmergencyServiceStub
from tests.support.running_server import RunningServer, queue_request
from tests.support.wire_agent import hello

Metadata = tuple[tuple[str, str], ...]
Request = Callable[[RunningServer, Metadata], Awaitable[Any]]


async def _one_command(server: RunningServer, admin: Metadata) -> Any:
    queued = await CommandServiceStub(server.channel).QueueCommand(queue_request("nobody", "PRINT"), metadata=admin)
    return command_service_pb2.WatchCommandRequest(command_id=queued.command.command_id)


async def _a_stop(server: RunningServer, admin: Metadata) -> Any:
    """A stop that an attached agent does not confirm."""
    scope = emergency_pb2.StopScope(selectors=["silent"])
    stopped = await EmergencyServiceStub(server.channel).Stop(emergency_pb2.StopRequest(scope=scope), metadata=admin)
    request = emergency_pb2.WatchStopRequest(stop_id=stopped.stop.stop_id)
    request.timeout.FromSeconds(600)
    return request


def _always(request: Any) -> Request:
    async def made(server: RunningServer, admin: Metadata) -> Any:
        return request

    return made


CONNECT: Final = "/distributor.v1.AgentGatewayService/Connect"
REFLECTION: Final = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
REQUESTS: Final[Mapping[str, Request]] = {
    CONNECT: _always(agent_gateway_pb2.ConnectRequest(hello=hello("agent123"))),
    "/distributor.v1.CommandService/WatchCommand": _one_command,
    "/distributor.v1.CommandService/WatchCommands": _always(command_service_pb2.WatchCommandsRequest()),
    "/distributor.v1.EmergencyService/WatchStop": _a_stop,
    "/distributor.v1.AuditService/ExportAudit": _always(audit_pb2.ExportAuditRequest(follow=True)),
    "/grpc.health.v1.Health/Watch": _always(health_pb2.HealthCheckRequest()),
    REFLECTION: _always(reflection_pb2.ServerReflectionRequest(list_services="")),
}
"""By method: the request of a stream that lasts until its caller ends it."""


def descriptor_of(method: str) -> MethodDescriptor:
    """The descriptor of a method by its full name."""
    service, _, name = method.removeprefix("/").partition("/")
    return Default().FindServiceByName(service).methods_by_name[name]


def streaming(methods: frozenset[str]) -> set[str]:
    """Those of the methods whose calls have several requests or several responses."""
    found = {method: descriptor_of(method) for method in methods}
    return {method for method, one in found.items() if one.client_streaming or one.server_streaming}


async def opened(server: RunningServer, method: str, credentials: Metadata, admin: Metadata) -> Any:
    """A stream of this method, after its first response. `admin` prepares what it is about."""
    request = await REQUESTS[method](server, admin)
    descriptor = descriptor_of(method)
    codecs = {
        "request_serializer": lambda message: message.SerializeToString(),
        "response_deserializer": GetMessageClass(descriptor.output_type).FromString,
    }
    if descriptor.client_streaming:
        call: Any = server.channel.stream_stream(method, **codecs)(metadata=credentials)
        await call.write(request)
    else:
        call = server.channel.unary_stream(method, **codecs)(request, metadata=credentials)
    assert await call.read() is not grpc.aio.EOF
    return call
