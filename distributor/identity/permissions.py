"""What each RPC, WebSocket message and HTTP route needs: the one table. What it does not name is refused."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from distributor.errors import PermissionDenied, Unauthenticated
from distributor.identity.caller import Caller, CallerKind
from distributor.identity.roles import Role


class Need(StrEnum):
    """What a caller needs.

    `nothing`: answered for everyone. `enrolment`: the message itself carries the proof, which the use case checks.
    `caller`: any authenticated caller. `agent`: an agent. The others: that role.
    """

    NOTHING = "nothing"
    ENROLMENT = "enrolment"
    CALLER = "caller"
    AGENT = "agent"
    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"
    DELEGATE = "delegate"


_ROLES: Final = {need: Role(need.value) for need in (Need.VIEWER, Need.OPERATOR, Need.ADMIN, Need.DELEGATE)}

_COMMANDS: Final = "/distributor.v1.CommandService/"
_AUDIT: Final = "/distributor.v1.AuditService/"
_EMERGENCY: Final = "/distributor.v1.EmergencyService/"
_ENROLMENT: Final = "/distributor.v1.EnrolmentService/"
_CREDENTIALS: Final = "/distributor.v1.CredentialService/"

RPCS: Final[Mapping[str, Need]] = MappingProxyType(
    {
        "/grpc.health.v1.Health/Check": Need.NOTHING,
        "/grpc.health.v1.Health/List": Need.CALLER,
        "/grpc.health.v1.Health/Watch": Need.CALLER,
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Need.VIEWER,
        "/distributor.v1.AgentGatewayService/Connect": Need.AGENT,
        f"{_COMMANDS}QueueCommand": Need.OPERATOR,
        f"{_COMMANDS}QueueCommands": Need.OPERATOR,
        f"{_COMMANDS}CancelCommand": Need.OPERATOR,
        f"{_COMMANDS}RetryCommands": Need.OPERATOR,
        f"{_COMMANDS}GetCommand": Need.VIEWER,
        f"{_COMMANDS}GetResult": Need.VIEWER,
        f"{_COMMANDS}ListCommands": Need.VIEWER,
        f"{_COMMANDS}WatchCommand": Need.VIEWER,
        f"{_COMMANDS}WatchCommands": Need.VIEWER,
        f"{_COMMANDS}ListAgents": Need.VIEWER,
        f"{_COMMANDS}GetAgent": Need.VIEWER,
        "/distributor.v1.IdentityService/WhoAmI": Need.CALLER,
        f"{_AUDIT}ListAuditEntries": Need.ADMIN,
        f"{_AUDIT}ExportAudit": Need.ADMIN,
        f"{_AUDIT}VerifyAudit": Need.ADMIN,
        f"{_AUDIT}RecordDashboardEvents": Need.DELEGATE,
        f"{_EMERGENCY}Stop": Need.ADMIN,
        f"{_EMERGENCY}Resume": Need.ADMIN,
        f"{_EMERGENCY}ListStops": Need.ADMIN,
        f"{_EMERGENCY}WatchStop": Need.ADMIN,
        f"{_ENROLMENT}Enrol": Need.ENROLMENT,
        f"{_ENROLMENT}StartRenewal": Need.ENROLMENT,
        f"{_ENROLMENT}Renew": Need.ENROLMENT,
        f"{_CREDENTIALS}CreateEnrolmentToken": Need.ADMIN,
        f"{_CREDENTIALS}RevokeAgent": Need.ADMIN,
        f"{_CREDENTIALS}RestoreAgent": Need.ADMIN,
        f"{_CREDENTIALS}RevokeToken": Need.ADMIN,
        f"{_CREDENTIALS}RevokeService": Need.ADMIN,
        f"{_CREDENTIALS}RestoreService": Need.ADMIN,
        f"{_CREDENTIALS}ListRevocations": Need.ADMIN,
    }
)
"""By full name of the method."""

MESSAGES: Final[Mapping[str, Need]] = MappingProxyType(
    {
        "dashboard:connect": Need.VIEWER,
        "dashboard:renew": Need.VIEWER,
        "command:request": Need.OPERATOR,
        "command:retry": Need.OPERATOR,
        "command:interrupt": Need.OPERATOR,
        "emergency:stop": Need.ADMIN,
        "emergency:resume": Need.ADMIN,
        "subscribe": Need.VIEWER,
        "unsubscribe": Need.VIEWER,
        "ping": Need.VIEWER,
    }
)
"""By type of a dashboard's message."""

ROUTES: Final[Mapping[str, Need]] = MappingProxyType(
    {
        "/ws": Need.NOTHING,
        "/metrics": Need.VIEWER,
        "/healthz": Need.NOTHING,
        "/readyz": Need.NOTHING,
        "/api/commands": Need.VIEWER,
        "/api/commands/{command_id}": Need.VIEWER,
        "/api/commands/{command_id}/output": Need.VIEWER,
        "/api/agents": Need.VIEWER,
        "/api/audit": Need.ADMIN,
        "/api/{rest:path}": Need.VIEWER,
        "/session": Need.ENROLMENT,
        "/dev/token": Need.NOTHING,
        "": Need.NOTHING,
    }
)
"""By path of an HTTP route.

A WebSocket opens for everyone, to authenticate by its first message. /session takes the token to sign in with. "" is
the page.
"""


def check_permitted(caller: Caller | None, need: Need, what: str) -> None:
    """Raise unless `caller`, None if there are no credentials, may do `what`.

    Raises Unauthenticated without credentials, PermissionDenied if the caller may not.
    """
    if need in (Need.NOTHING, Need.ENROLMENT):
        return
    if caller is None:
        raise no_credentials()
    if not caller.known or need is Need.CALLER:
        return
    if need is Need.AGENT:
        if caller.kind is not CallerKind.AGENT:
            raise PermissionDenied(f"{what} is for agents, and {caller} is not one", reason="NOT_AN_AGENT")
    elif _ROLES[need] not in caller.roles:
        raise PermissionDenied(
            f"{what} needs the role {need}, and {caller} does not have it",
            reason="ROLE_MISSING",
            metadata={"role": need},
        )


def no_credentials() -> Unauthenticated:
    """The error for a caller without credentials."""
    return Unauthenticated(
        "credentials are required: a token in the metadata `authorization`, or a client certificate",
        reason="CREDENTIALS_REQUIRED",
    )
