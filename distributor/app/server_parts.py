"""Assembles a server without starting it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from distributor.app.agent_parts import AgentParts, agent_parts
from distributor.app.audit_parts import AuditParts
from distributor.app.command_parts import command_parts
from distributor.app.grpc_parts import grpc_server
from distributor.app.lifespan import Loop
from distributor.app.packers import at_rest_packer
from distributor.app.server_stores import Stores
from distributor.app.shared_parts import SharedParts, shared_parts
from distributor.app.timing import ServerTiming
from distributor.dispatch.agent_registry import AgentRegistry
from distributor.dispatch.command_distributor import CommandDistributor
from distributor.dispatch.credentials import Credentials
from distributor.dispatch.emergency_stops import EmergencyStops
from distributor.dispatch.event_relay import EventRelay
from distributor.dispatch.gauges import Gauges
from distributor.dispatch.revocations import Revocations
from distributor.dispatch.watches import Watches
from distributor.identity.policy_source import PolicySource
from distributor.model.retry_policy import RetryPolicy
from distributor.observability.metrics import Metrics
from distributor.rpc.agent_gateway import AgentGateway
from distributor.rpc.audit_servicer import AuditServicer
from distributor.rpc.credential_servicer import CredentialServicer
from distributor.rpc.emergency_servicer import EmergencyServicer
from distributor.rpc.enrolment_servicer import EnrolmentServicer
from distributor.rpc.interceptors.authentication import Authenticator
from distributor.rpc.interceptors.wrapping import Interceptor
from distributor.rpc.server import GrpcServer
from distributor.settings import ServerSettings

DEFAULT_TIMING: Final = ServerTiming()


@dataclass(frozen=True, slots=True)
class ServerParts:
    """The parts to start and stop. `loops` are the background loops by name; none of them returns."""

    registry: AgentRegistry
    watches: Watches
    relay: EventRelay
    distributor: CommandDistributor
    gauges: Gauges
    revocations: Revocations
    policy: PolicySource
    enrolment: EnrolmentServicer
    gateway: AgentGateway
    grpc: GrpcServer
    audit: AuditParts | None
    loops: Mapping[str, Loop]


def server_parts(
    stores: Stores,
    settings: ServerSettings,
    metrics: Metrics,
    interceptors: Sequence[Interceptor] = (),
    timing: ServerTiming = DEFAULT_TIMING,
    authenticator: Authenticator | None = None,
) -> ServerParts:
    """Assemble a server over these stores.

    `interceptors` run outside our own. No `authenticator`: no authentication.
    """
    shared = shared_parts(stores, settings, metrics, timing, authenticated=authenticator is not None)
    retry, at_rest = retry_policy(settings), at_rest_packer(settings, metrics)
    agents = agent_parts(shared, retry, at_rest)
    commands = command_parts(shared, retry, at_rest, agents.holds)
    grpc = grpc_server(shared, interceptors, authenticator)
    emergency = EmergencyServicer(EmergencyStops(stores.stops, agents.halts))
    grpc.serve(agents.gateway, commands.servicer, emergency, _audit_servicer(shared.audit))
    enrolment = EnrolmentServicer(agents.enrolments)
    grpc.serve_credentials(enrolment, _credential_servicer(shared, agents))
    return ServerParts(
        shared.registry,
        shared.watches,
        shared.relay,
        commands.distributor,
        shared.gauges,
        shared.revocations,
        shared.policy,
        enrolment,
        agents.gateway,
        grpc,
        shared.audit,
        {**shared.loops, **agents.loops, **commands.loops},
    )


def retry_policy(settings: ServerSettings) -> RetryPolicy:
    """Return the delivery retry policy from the settings."""
    return RetryPolicy(
        settings.delivery_attempts, round(settings.retry_first * 1000), round(settings.retry_most * 1000)
    )


def _audit_servicer(audit: AuditParts | None) -> AuditServicer:
    if audit is None:
        return AuditServicer(None)
    return AuditServicer(audit.reading, audit.last_checkpoint, audit.recorder)


def _credential_servicer(shared: SharedParts, agents: AgentParts) -> CredentialServicer:
    stores = shared.stores
    return CredentialServicer(Credentials(stores.enrolment, stores.revocations, shared.revocations, agents.enrolments))
