"""Assembles the gRPC server: servicers, interceptors, health, reflection, port."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from distributor.errors import ConfigurationError
from distributor.rpc.agent_gateway import AgentGateway
from distributor.rpc.audit_servicer import AuditServicer
from distributor.rpc.command_servicer import CommandServicer
from distributor.rpc.credential_servicer import CredentialServicer
from distributor.rpc.emergency_servicer import EmergencyServicer
from distributor.rpc.enrolment_servicer import EnrolmentServicer
from distributor.rpc.health_servicer import HealthServicer
from distributor.rpc.identity_servicer import IdentityServicer
from distributor.rpc.interceptors.wrapping import Interceptor
from distributor.rpc.method_table import MethodTable
from distributor.tasks import stop_tasks
from distributor.v1 import (
    agent_gateway_pb2,
    audit_pb2,
    command_service_pb2,
    credentials_pb2,
    emergency_pb2,
    enrolment_pb2,
    identity_pb2,
)
from distributor.v1.agent_gateway_pb2_grpc import add_AgentGatewayServiceServicer_to_server
from distributor.v1.audit_pb2_grpc import add_AuditServiceServicer_to_server
from distributor.v1.command_service_pb2_grpc import add_CommandServiceServicer_to_server
from distributor.v1.credentials_pb2_grpc import add_CredentialServiceServicer_to_server
from distributor.v1.emergency_pb2_grpc import add_EmergencyServiceServicer_to_server
from distributor.v1.enrolment_pb2_grpc import add_EnrolmentServiceServicer_to_server
from distributor.v1.identity_pb2_grpc import add_IdentityServiceServicer_to_server
from distributor.wire.listening import check_free
from distributor.wire.transport import DEFAULT_LIMITS, ServerLimits, server_options

SERVICES: Final = (
    command_service_pb2.DESCRIPTOR.services_by_name["CommandService"].full_name,
    agent_gateway_pb2.DESCRIPTOR.services_by_name["AgentGatewayService"].full_name,
    emergency_pb2.DESCRIPTOR.services_by_name["EmergencyService"].full_name,
    enrolment_pb2.DESCRIPTOR.services_by_name["EnrolmentService"].full_name,
    credentials_pb2.DESCRIPTOR.services_by_name["CredentialService"].full_name,
    identity_pb2.DESCRIPTOR.services_by_name["IdentityService"].full_name,
    audit_pb2.DESCRIPTOR.services_by_name["AuditService"].full_name,
)


_UNTIL_STOPPED_SECONDS: Final = 86_400.0
"""Longer than any drain."""


class Listener(NamedTuple):
    """An address, "host:port", the setting that names it, and its TLS credentials; plain text without."""

    address: str
    setting: str = "listen"
    credentials: grpc.ServerCredentials | None = None


class GrpcServer:
    """A grpc.aio server with health checks. Create, `start()` and `stop()` it on one event loop."""

    def __init__(
        self,
        interceptors: Sequence[Interceptor],
        with_reflection: bool = False,
        insecure: Sequence[str] = (),
        limits: ServerLimits = DEFAULT_LIMITS,
        *,
        share_ports: bool = False,
    ) -> None:
        """`insecure` is what callers learn to be unsafe about this server, as in WhoAmIResponse.

        With `share_ports`, it listens beside the other workers of its supervisor, which holds the ports.
        """
        self._methods = MethodTable(interceptors)
        self._share_ports = share_ports
        options = server_options(limits, share_ports=share_ports)
        self._server = grpc.aio.server(handlers=[self._methods], options=options)
        self._closing: asyncio.Task[None] | None = None
        self._health = HealthServicer()
        self._identity = IdentityServicer(insecure)
        self._methods.add(health_pb2_grpc.add_HealthServicer_to_server, self._health)
        if with_reflection:
            names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
            servicer = reflection.aio.ReflectionServicer(service_names=names)
            self._methods.add(reflection_pb2_grpc.add_ServerReflectionServicer_to_server, servicer)

    @property
    def methods(self) -> frozenset[str]:
        """The full names of all methods that it answers."""
        return self._methods.names

    def serve(
        self,
        gateway: AgentGateway,
        commands: CommandServicer,
        emergency: EmergencyServicer,
        audit: AuditServicer,
    ) -> None:
        """Register the services."""
        self._methods.add(add_AgentGatewayServiceServicer_to_server, gateway)
        self._methods.add(add_CommandServiceServicer_to_server, commands)
        self._methods.add(add_EmergencyServiceServicer_to_server, emergency)
        self._methods.add(add_IdentityServiceServicer_to_server, self._identity)
        self._methods.add(add_AuditServiceServicer_to_server, audit)

    def serve_credentials(self, enrolment: EnrolmentServicer, credentials: CredentialServicer) -> None:
        """Register the services that issue and revoke credentials."""
        self._methods.add(add_EnrolmentServiceServicer_to_server, enrolment)
        self._methods.add(add_CredentialServiceServicer_to_server, credentials)

    async def start(self, *listeners: Listener) -> list[int]:
        """Listen and return the port of each listener. Raises ConfigurationError, naming the address, on failure."""
        ports = [self._add_port(listener) for listener in listeners]
        await self._server.start()
        return ports

    def _add_port(self, listener: Listener) -> int:
        address, setting = listener.address, listener.setting
        # Check first: gRPC does not report the cause, and writes its own lines to stderr.
        if not self._share_ports:
            check_free(address, setting)
        try:
            if listener.credentials is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, listener.credentials)
        except RuntimeError as error:
            raise ConfigurationError(
                f"cannot listen on {address} ({setting}): the address, or its certificate, cannot be used; set another",
                field=setting,
                reason="CANNOT_LISTEN",
            ) from error

    async def set_serving(self, serving: bool) -> None:
        """Set the status that health checks report."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *SERVICES):
            await self._health.set(name, status)

    async def stop_listening(self) -> None:
        """Accept no more connections and calls, and free the address for another server. Running calls go on."""
        if self._closing is None:
            # gRPC closes the address at once, and tells peers to make their next calls elsewhere.
            self._closing = asyncio.create_task(self._server.stop(_UNTIL_STOPPED_SECONDS), name="stop listening")
            await asyncio.sleep(0)

    async def stop(self, grace_seconds: float) -> None:
        """Refuse new calls, allow running calls the grace period, then end them."""
        if self._closing is not None:
            await stop_tasks([self._closing])
        await self._server.stop(grace_seconds)
