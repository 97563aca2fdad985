"""Calls of EnrolmentService: an agent's first certificate, and a new one for an expired certificate."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

import grpc

from distributor.client.status import error_of
from distributor.errors import DistributorError, Unavailable
from distributor.v1 import enrolment_pb2 as pb
from distributor.v1.enrolment_pb2_grpc import EnrolmentServiceStub
from distributor.wire.credentials import Connector

T = TypeVar("T")

CALL_SECONDS: Final = 20.0


class IssuedCertificate(NamedTuple):
    """A certificate chain in PEM, and certificates by which to recognise servers; the latter empty if unchanged."""

    chain: bytes
    server_ca: bytes


class EnrolledAgent(NamedTuple):
    """What an agent gets when it enrols. `servers` are the addresses for agents with a certificate."""

    certificate: IssuedCertificate
    servers: str
    labels: Mapping[str, str]
    trust_domain: str


class EnrolmentClient:
    """Calls the first of some servers, "host:port" separated by commas, that can be reached. No state.

    Raises the errors that the server answers, and Unavailable if no server can be reached.
    """

    def __init__(self, servers: str, connector: Connector) -> None:
        self._servers = [part.strip() for part in servers.split(",") if part.strip()]
        self._connector = connector

    async def enrol(self, token: str, agent_id: str, request_pem: bytes, replace: bool) -> EnrolledAgent:
        """Enrol; `token` is the id and the secret with a dot between. An address without a host is completed."""
        request = pb.EnrolRequest(
            token=token,
            agent_id=agent_id,
            certificate_request=pb.CertificateRequest(request=request_pem),
            replace=replace,
        )

        async def call(stub: Any, server: str) -> EnrolledAgent:
            response: pb.EnrolResponse = await stub.Enrol(request, timeout=CALL_SECONDS)
            return EnrolledAgent(
                _issued(response.certificate),
                _complete(response.servers, server),
                dict(response.labels),
                response.trust_domain,
            )

        return await self._at_first(call)

    async def renew(self, expired_pem: bytes, request_pem: bytes, sign: Callable[[bytes], bytes]) -> IssuedCertificate:
        """Renew an expired certificate; `sign` proves possession of its key for a challenge."""

        async def call(stub: Any, _: str) -> IssuedCertificate:
            start = pb.StartRenewalRequest(certificate=expired_pem)
            challenge = (await stub.StartRenewal(start, timeout=CALL_SECONDS)).challenge
            renewal = pb.RenewRequest(
                certificate=expired_pem,
                certificate_request=pb.CertificateRequest(request=request_pem),
                challenge=challenge,
                signature=sign(challenge),
            )
            return _issued((await stub.Renew(renewal, timeout=CALL_SECONDS)).certificate)

        return await self._at_first(call)

    async def _at_first(self, call: Callable[[Any, str], Awaitable[T]]) -> T:
        failure: DistributorError = Unavailable("there is no server to call")
        for server in self._servers:
            async with self._connector.channel(server) as channel:
                try:
                    return await call(EnrolmentServiceStub(channel), server)
                except grpc.aio.AioRpcError as error:
                    failure = error_of(error, server)
            if not isinstance(failure, Unavailable):
                break
        raise failure


def _issued(certificate: pb.Certificate) -> IssuedCertificate:
    return IssuedCertificate(certificate.chain, certificate.server_ca)


def _complete(servers: str, answered: str) -> str:
    """Put the host that answered before addresses that have none."""
    host = answered.rpartition(":")[0]
    return ",".join(f"{host}{one}" if one.startswith(":") else one for one in servers.split(",") if one)
