"""CredentialService on the wire: convert, call the use case, convert back."""

from __future__ import annotations

from typing import Any, Final

import grpc

from distributor.dispatch.credentials import Credentials
from distributor.model.revocation import Revocation, RevokedKind
from distributor.rpc.current_caller import current_caller
from distributor.v1 import credentials_pb2 as pb
from distributor.v1.credentials_pb2_grpc import CredentialServiceServicer

DEFAULT_LIFETIME_MS: Final = 3_600_000

_KINDS: Final = {
    RevokedKind.AGENT: pb.REVOCATION_KIND_AGENT,
    RevokedKind.TOKEN: pb.REVOCATION_KIND_TOKEN,
    RevokedKind.SERVICE: pb.REVOCATION_KIND_SERVICE,
}

Context = grpc.aio.ServicerContext[Any, Any]


class CredentialServicer(CredentialServiceServicer):
    """One method per RPC."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def CreateEnrolmentToken(
        self, request: pb.CreateEnrolmentTokenRequest, context: Context
    ) -> pb.CreateEnrolmentTokenResponse:
        lifetime = request.expires_in
        ms = lifetime.seconds * 1000 + lifetime.nanos // 1_000_000
        printed = await self._credentials.create_enrolment_token(
            request.agents,
            dict(request.labels),
            request.count or 1,
            ms if request.HasField("expires_in") else DEFAULT_LIFETIME_MS,
            current_caller(),
        )
        response = pb.CreateEnrolmentTokenResponse(token=printed.text, token_id=printed.token_id)
        response.expire_time.FromMilliseconds(printed.expires_ms)
        return response

    async def RevokeAgent(self, request: pb.RevokeAgentRequest, context: Context) -> pb.RevokeAgentResponse:
        entry = await self._credentials.revoke_agent(request.agent_id, request.reason, current_caller())
        return pb.RevokeAgentResponse(revocation=_revocation(entry))

    async def RestoreAgent(self, request: pb.RestoreAgentRequest, context: Context) -> pb.RestoreAgentResponse:
        await self._credentials.restore_agent(request.agent_id, current_caller())
        return pb.RestoreAgentResponse()

    async def RevokeToken(self, request: pb.RevokeTokenRequest, context: Context) -> pb.RevokeTokenResponse:
        entry = await self._credentials.revoke_token(request.token_id, request.reason, current_caller())
        return pb.RevokeTokenResponse(revocation=_revocation(entry))

    async def RevokeService(self, request: pb.RevokeServiceRequest, context: Context) -> pb.RevokeServiceResponse:
        entry = await self._credentials.revoke_service(request.service, request.reason, current_caller())
        return pb.RevokeServiceResponse(revocation=_revocation(entry))

    async def RestoreService(self, request: pb.RestoreServiceRequest, context: Context) -> pb.RestoreServiceResponse:
        await self._credentials.restore_service(request.service, current_caller())
        return pb.RestoreServiceResponse()

    async def ListRevocations(self, request: pb.ListRevocationsRequest, context: Context) -> pb.ListRevocationsResponse:
        entries = await self._credentials.revocations()
        return pb.ListRevocationsResponse(revocations=map(_revocation, entries))


def _revocation(entry: Revocation) -> pb.Revocation:
    message = pb.Revocation(
        kind=_KINDS[entry.kind],
        subject=entry.subject,
        generation=entry.generation,
        revoked_by=entry.revoked_by,
        reason=entry.reason,
    )
    message.revoke_time.FromMilliseconds(entry.revoked_ms)
    return message
