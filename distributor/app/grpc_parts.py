"""Assembles the gRPC server, with what surrounds each of its calls."""

from __future__ import annotations

from collections.abc import Sequence

from distributor.app.packers import message_packer
from distributor.app.server_endpoints import insecurities
from distributor.app.shared_parts import SharedParts
from distributor.dispatch.audited_callers import AuditedCallers
from distributor.dispatch.caller_limits import CallerLimits
from distributor.identity.credential_attempts import CredentialAttempts
from distributor.observability.metrics import Compressed
from distributor.rpc.interceptors.admission import CallLimit
from distributor.rpc.interceptors.audit import AuditInterceptor, CallAudit
from distributor.rpc.interceptors.authentication import Authenticator, Doors
from distributor.rpc.interceptors.caller_limits import CallerLimitInterceptor
from distributor.rpc.interceptors.calls import CallInterceptor
from distributor.rpc.interceptors.compression import CompressionInterceptor
from distributor.rpc.interceptors.enrolment_attempts import EnrolmentAttemptInterceptor
from distributor.rpc.interceptors.lapse import CallGuard
from distributor.rpc.interceptors.wrapping import Interceptor
from distributor.rpc.server import GrpcServer
from distributor.wire.transport import ServerLimits


def grpc_server(shared: SharedParts, outside: Sequence[Interceptor], authenticator: Authenticator | None) -> GrpcServer:
    """Assemble the server, without services. `outside` run outside our own interceptors."""
    settings = shared.settings
    accepted = ServerLimits(
        settings.max_message_bytes,
        settings.max_metadata_bytes,
        round(settings.handshake_timeout * 1000),
        round(settings.idle_connection_timeout * 1000),
    )
    insecure = insecurities(settings, authenticated=authenticator is not None)
    interceptors = [*outside, _admission(shared, authenticator), *_inside(shared)]
    return GrpcServer(interceptors, settings.reflection, insecure, accepted, share_ports=settings.workers > 1)


def _admission(shared: SharedParts, authenticator: Authenticator | None) -> Interceptor:
    """What decides which calls are served, and for how long."""
    doors = Doors(authenticator) if authenticator is not None else None
    noted = CallAudit(AuditedCallers(shared.audit.recorder)) if shared.audit is not None else None
    limit, guard = CallLimit(shared.settings.max_calls), CallGuard(shared.revocations)
    return CallInterceptor(shared.metrics, limit, doors, noted, shared.settings.max_metadata_bytes, guard)


def _inside(shared: SharedParts) -> list[Interceptor]:
    """What surrounds the calls that are admitted, from the outside in."""
    settings = shared.settings
    packer = message_packer(settings, shared.metrics, Compressed.SENT_TO_CALLERS, Compressed.RECEIVED_FROM_CALLERS)
    attempts = CredentialAttempts(settings.failed_credentials_rate, settings.failed_credentials_burst)
    inside: list[Interceptor] = [
        EnrolmentAttemptInterceptor(attempts),
        CompressionInterceptor(packer),
        CallerLimitInterceptor(CallerLimits(settings)),
    ]
    if shared.audit is not None:
        inside.append(AuditInterceptor(shared.audit.recorder))
    return inside
