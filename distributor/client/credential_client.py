"""Makes enrolment tokens, and revokes credentials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from distributor.client.service_client import ServiceClient
from distributor.model.revocation import Revocation, RevokedKind
from distributor.v1 import credentials_pb2 as pb
from distributor.v1.credentials_pb2_grpc import CredentialServiceStub
from distributor.wire.times import bounded_ms

if TYPE_CHECKING:
    import grpc

    from distributor.v1.credentials_pb2_grpc import CredentialServiceAsyncStub

_KINDS = {
    pb.REVOCATION_KIND_AGENT: RevokedKind.AGENT,
    pb.REVOCATION_KIND_TOKEN: RevokedKind.TOKEN,
    pb.REVOCATION_KIND_SERVICE: RevokedKind.SERVICE,
}


class EnrolmentTokenText(NamedTuple):
    """A token as it is passed to a host, its id, and when it expires, in milliseconds since the epoch."""

    text: str
    token_id: str
    expires_ms: int


class CredentialClient(ServiceClient["CredentialServiceAsyncStub"]):
    """For administrators."""

    async def enrolment_token(
        self, agents: str, labels: Mapping[str, str], uses: int, lifetime_seconds: int
    ) -> EnrolmentTokenText:
        """Make a token for an agent id, or for a pattern of ids with `*` and `?`."""
        request = pb.CreateEnrolmentTokenRequest(agents=agents, labels=labels, count=uses)
        request.expires_in.FromSeconds(lifetime_seconds)
        response = await self._calls.call(self._stub.CreateEnrolmentToken, request)
        return EnrolmentTokenText(response.token, response.token_id, bounded_ms(response.expire_time))

    async def revoke_agent(self, agent_id: str, reason: str = "") -> Revocation:
        """Revoke all that an agent has."""
        request = pb.RevokeAgentRequest(agent_id=agent_id, reason=reason)
        return _revocation((await self._calls.call(self._stub.RevokeAgent, request)).revocation)

    async def revoke_token(self, token_id: str, reason: str = "") -> Revocation:
        """Revoke a token by its id."""
        request = pb.RevokeTokenRequest(token_id=token_id, reason=reason)
        return _revocation((await self._calls.call(self._stub.RevokeToken, request)).revocation)

    async def restore_agent(self, agent_id: str) -> None:
        """Let an agent's certificates count again."""
        await self._calls.call(self._stub.RestoreAgent, pb.RestoreAgentRequest(agent_id=agent_id))

    async def revoke_service(self, name: str, reason: str = "") -> Revocation:
        """Revoke all that a service was issued until now."""
        request = pb.RevokeServiceRequest(service=name, reason=reason)
        return _revocation((await self._calls.call(self._stub.RevokeService, request)).revocation)

    async def restore_service(self, name: str) -> None:
        """Let what a service was issued before count again."""
        await self._calls.call(self._stub.RestoreService, pb.RestoreServiceRequest(service=name))

    async def revocations(self) -> list[Revocation]:
        """All revocations, newest first."""
        response = await self._calls.call(self._stub.ListRevocations, pb.ListRevocationsRequest())
        return [_revocation(entry) for entry in response.revocations]

    def _make_stub(self, channel: grpc.aio.Channel) -> CredentialServiceAsyncStub:
        return CredentialServiceStub(channel)


def _revocation(entry: pb.Revocation) -> Revocation:
    return Revocation(
        _KINDS.get(entry.kind, RevokedKind.TOKEN),
        entry.subject,
        bounded_ms(entry.revoke_time),
        entry.generation,
        entry.revoked_by,
        entry.reason,
    )
