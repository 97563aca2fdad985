"""An agent's identity comes from its certificate alone, and ends with it."""

from __future__ import annotations

import base64
import ssl
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2
from structlog.testing import capture_logs

from distributor.dispatch.revocations import LOOK_INTERVAL_SECONDS
from distributor.identity.certificates import identity_of
from distributor.identity.private_keys import new_key, private_key, private_pem
from distributor.identity.renewal_proof import sign_renewal
from distributor.identity.signing_requests import signing_request
from distributor.v1 import credentials_pb2, identity_pb2
from distributor.v1 import enrolment_pb2 as pb
from distributor.v1.agent_gateway_pb2 import CertificateReply, ConnectRequest
from distributor.wire.status_details import details_of, unpacked
from tests.support.certificates import (
    TRUST_DOMAIN,
    CertificateMaker,
    Issued,
    expired,
    not_yet_valid,
)
from tests.support.issuing_server import AS_ADMIN, IssuingServer, issuing_server
from tests.support.known_callers import AGENT, KnownCallers, credentials_of
from tests.support.running_server import running_server
from tests.support.wire_agent import WireAgent, hello

SECOND = timedelta(seconds=1)


@pytest.fixture(scope="module")
def maker() -> CertificateMaker:
    return CertificateMaker()


@pytest.fixture
async def server(valkey_url: str, maker: CertificateMaker, tmp_path: Path) -> AsyncIterator[IssuingServer]:
    async with issuing_server(valkey_url, maker, tmp_path) as server:
        yield server


def reason(agent: WireAgent) -> str:
    return reason_of(agent.trailing)


def reason_of(trailing: Any) -> str:
    return str(unpacked(details_of(trailing), error_details_pb2.ErrorInfo()).reason)


async def first_answer(channel: grpc.aio.Channel, method: str, request: Message) -> None:
    """Call a method with any number of responses, and leave after the first one."""
    call: Any = channel.unary_stream(method, request_serializer=type(request).SerializeToString)(request)
    async for _ in call:
        break
    call.cancel()


async def revoke(server: IssuingServer, agent_id: str) -> None:
    request = credentials_pb2.RevokeAgentRequest(agent_id=agent_id, reason="stolen")
    await server.credentials.RevokeAgent(request, metadata=AS_ADMIN)


# Who connects


@pytest.mark.parametrize(
    "peer",
    [
        lambda maker: None,
        lambda maker: CertificateMaker("another CA").agent("press-7"),
        lambda maker: expired(maker, "press-7"),
        lambda maker: not_yet_valid(maker, "press-7"),
    ],
    ids=["no certificate", "another CA", "expired", "not yet valid"],
)
async def test_the_transport_refuses(
    server: IssuingServer, maker: CertificateMaker, peer: Callable[[CertificateMaker], Issued | None]
) -> None:
    async with server.stream(peer(maker)) as agent:
        assert await agent.ended() is grpc.StatusCode.UNAVAILABLE
        assert not agent.messages


@pytest.mark.parametrize(
    ("uris", "why"),
    [
        (("spiffe://distributor/agent/press-7", "spiffe://distributor/agent/press-8"), "2 subject alternative names"),
        (("spiffe://elsewhere/agent/press-7",), "trust domain"),
        ((), "no subject alternative name"),
    ],
    ids=["two names", "another trust domain", "no name"],
)
async def test_a_certificate_without_one_identity_is_refused(
    server: IssuingServer, maker: CertificateMaker, uris: tuple[str, ...], why: str
) -> None:
    async with server.stream(maker.issue(uris=uris, common_name="press-7")) as agent:
        assert await agent.ended() is grpc.StatusCode.UNAUTHENTICATED
        assert why in agent.details
        assert reason(agent) == "CERTIFICATE_REFUSED"


async def test_a_hello_for_another_agent_is_refused_and_logged(server: IssuingServer, maker: CertificateMaker) -> None:
    with capture_logs() as logs:
        async with server.stream(maker.agent("press-7")) as agent:
            await agent.send(hello=hello("press-8"))
            assert await agent.ended() is grpc.StatusCode.PERMISSION_DENIED
            assert reason(agent) == "AGENT_ID_MISMATCH"
            assert not agent.messages
    (line,) = [line for line in logs if line["event"] == "an agent claims another's id"]
    assert (line["agent_id"], line["claimed"]) == ("press-7", "press-8")


async def test_a_hello_must_match_a_token_too(valkey_url: str) -> None:
    async with (
        running_server(valkey_url, authenticator=KnownCallers(AGENT)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        connect: Any = channel.stream_stream("/distributor.v1.AgentGatewayService/Connect")
        call = connect(metadata=credentials_of(AGENT))
        await call.write(ConnectRequest(hello=hello("press-8")).SerializeToString())
        assert await call.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_service_is_no_agent(server: IssuingServer, maker: CertificateMaker) -> None:
    async with server.stream(maker.service("press-7")) as agent:
        assert await agent.ended() is grpc.StatusCode.PERMISSION_DENIED
        assert reason(agent) == "NOT_AN_AGENT"


# Revocation


async def test_a_revoked_agent_is_cut_on_every_replica(
    server: IssuingServer, valkey_url: str, maker: CertificateMaker, tmp_path: Path
) -> None:
    peer, other = maker.agent("press-7"), maker.agent("press-8")
    async with (
        issuing_server(valkey_url, maker, tmp_path / "second") as second,
        second.agent(peer, "press-7") as agent,
        second.agent(other, "press-8") as bystander,
    ):
        begun = time.monotonic()
        await revoke(server, "press-7")
        assert await agent.ended() is grpc.StatusCode.UNAUTHENTICATED
        assert time.monotonic() - begun < 10
        assert reason(agent) == "CREDENTIALS_REVOKED"
        for replica in (server, second):
            async with replica.stream(peer) as again:
                assert await again.ended() is grpc.StatusCode.UNAUTHENTICATED
        await bystander.heartbeat()
    assert LOOK_INTERVAL_SECONDS <= 5, "two looks within the 10 s that are promised"


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("/grpc.health.v1.Health/Watch", health_pb2.HealthCheckRequest()),
        ("/distributor.v1.IdentityService/WhoAmI", identity_pb2.WhoAmIRequest()),
    ],
    ids=lambda value: value.rpartition("/")[2] if isinstance(value, str) else "",
)
async def test_a_revoked_agent_may_call_nothing(
    server: IssuingServer, maker: CertificateMaker, method: str, request_: Message
) -> None:
    async with server.channel(maker.agent("press-7")) as channel, server.channel(maker.agent("press-8")) as other:
        await first_answer(channel, method, request_)
        await revoke(server, "press-7")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await first_answer(channel, method, request_)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert reason_of(refused.value.trailing_metadata()) == "CREDENTIALS_REVOKED"
        await first_answer(other, method, request_)


async def test_a_revocation_survives_a_restart_and_can_be_undone(
    server: IssuingServer, valkey_url: str, maker: CertificateMaker, tmp_path: Path
) -> None:
    peer = maker.agent("press-7")
    await revoke(server, "press-7")
    async with issuing_server(valkey_url, maker, tmp_path / "later") as later:
        async with later.stream(peer) as agent:
            assert await agent.ended() is grpc.StatusCode.UNAUTHENTICATED
        request = credentials_pb2.ListRevocationsRequest()
        (entry,) = (await later.credentials.ListRevocations(request, metadata=AS_ADMIN)).revocations
        assert (entry.kind, entry.subject) == (credentials_pb2.REVOCATION_KIND_AGENT, "press-7")
        assert (entry.revoked_by, entry.reason) == ("user:ada", "stolen")
        restore = credentials_pb2.RestoreAgentRequest(agent_id="press-7")
        await later.credentials.RestoreAgent(restore, metadata=AS_ADMIN)
        async with later.agent(peer, "press-7"):
            pass


async def test_nothing_in_the_subject_saves_a_certificate_from_revocation(
    server: IssuingServer, maker: CertificateMaker
) -> None:
    peer = maker.issue(uris=[maker.uri("agent/press-7")], qualifier="9")
    async with server.agent(peer, "press-7") as agent:
        await revoke(server, "press-7")
        assert await agent.ended() is grpc.StatusCode.UNAUTHENTICATED
        assert reason(agent) == "CREDENTIALS_REVOKED"


# Expiry and renewal


async def test_a_stream_ends_with_its_certificate(server: IssuingServer, maker: CertificateMaker) -> None:
    peer = maker.agent("press-7", valid_from=datetime.now(UTC) - SECOND, lifetime=8 * SECOND)
    async with server.agent(peer, "press-7") as agent:
        assert await agent.ended() is grpc.StatusCode.UNAUTHENTICATED
        assert reason(agent) == "CREDENTIALS_EXPIRED"
        assert time.time() >= identity_of(peer.certificate_pem, TRUST_DOMAIN).expires


async def certificate(agent: WireAgent, request: bytes) -> CertificateReply:
    """What an attached agent gets for a request."""
    before = len([message for message in agent.messages if message.HasField("certificate")])
    await agent.send(certificate_request=pb.CertificateRequest(request=request))
    return await agent.until(
        lambda: next(iter([one.certificate for one in agent.messages if one.HasField("certificate")][before:]), None)
    )


async def test_a_certificate_is_renewed_on_the_stream_for_a_new_key(
    server: IssuingServer, maker: CertificateMaker
) -> None:
    key = new_key()
    async with server.agent(maker.agent("press-7"), "press-7") as agent:
        reply = await certificate(agent, signing_request(key))
        assert identity_of(reply.certificate.chain, TRUST_DOMAIN).peer.name == "press-7"
        await agent.heartbeat()
        again = await certificate(agent, signing_request(key))
        assert again.reason.code == "asked_too_soon"
        renewed = Issued(reply.certificate.chain, private_pem(key), maker.pem)
        async with server.agent(renewed, "press-7") as next_stream:
            assert next_stream.welcome.epoch == 2


def of_version(version: int) -> bytes:
    """A certificate request that says it is of this version."""
    der = x509.load_pem_x509_csr(signing_request(new_key())).public_bytes(Encoding.DER)
    changed = der.replace(b"\x02\x01\x00", bytes([2, 1, version]), 1)
    return b"-----BEGIN CERTIFICATE REQUEST-----\n%b-----END CERTIFICATE REQUEST-----\n" % base64.encodebytes(changed)


@pytest.mark.parametrize("request_pem", [b"nonsense", of_version(7)], ids=["nonsense", "of no known version"])
async def test_a_bad_request_does_not_end_the_stream(
    server: IssuingServer, maker: CertificateMaker, request_pem: bytes
) -> None:
    async with server.agent(maker.agent("press-7"), "press-7") as agent:
        reply = await certificate(agent, request_pem)
        assert reply.reason.code == "invalid_certificate_request"
        await agent.heartbeat()


async def test_a_certificate_of_no_known_version_is_not_renewed(server: IssuingServer, maker: CertificateMaker) -> None:
    der = ssl.PEM_cert_to_DER_cert(expired(maker, "press-7").certificate_pem.decode())
    pem = ssl.DER_cert_to_PEM_cert(der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07", 1)).encode()
    with pytest.raises(grpc.aio.AioRpcError, match="cannot be read") as caught:
        await server.enrolment.StartRenewal(pb.StartRenewalRequest(certificate=pem))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_without_a_certificate_none_is_renewed(valkey_url: str) -> None:
    async with running_server(valkey_url) as server, server.agent("press-7") as agent:
        assert (await certificate(agent, signing_request(new_key()))).reason.code == "no_certificate"


async def renew(server: IssuingServer, peer: Issued, signer: Issued | None = None) -> pb.RenewResponse:
    """Renew an expired certificate, with a proof by its own key or that of another."""
    request = signing_request(new_key())
    start = pb.StartRenewalRequest(certificate=peer.certificate_pem)
    challenge = (await server.enrolment.StartRenewal(start)).challenge
    response: pb.RenewResponse = await server.enrolment.Renew(
        pb.RenewRequest(
            certificate=peer.certificate_pem,
            certificate_request=pb.CertificateRequest(request=request),
            challenge=challenge,
            signature=sign_renewal(private_key((signer or peer).key_pem), challenge, request),
        )
    )
    return response


async def why_not(server: IssuingServer, peer: Issued, signer: Issued | None = None) -> str:
    """The reason for which a renewal is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await renew(server, peer, signer)
    return str(unpacked(details_of(caught.value.trailing_metadata()), error_details_pb2.ErrorInfo()).reason)


async def test_an_expired_certificate_is_renewed_for_its_holder(server: IssuingServer, maker: CertificateMaker) -> None:
    peer = expired(maker, "press-7")
    renewed = (await renew(server, peer)).certificate.chain
    assert identity_of(renewed, TRUST_DOMAIN).peer.name == "press-7"
    assert identity_of(renewed, TRUST_DOMAIN).expires > time.time()


async def test_an_expired_certificate_is_renewed_for_nobody_else(
    server: IssuingServer, maker: CertificateMaker
) -> None:
    peer = expired(maker, "press-7")
    assert await why_not(server, peer, maker.agent("press-8")) == "PROOF_REFUSED"
    assert await why_not(server, CertificateMaker("another CA").agent("press-7")) == "CERTIFICATE_REFUSED"
    assert await why_not(server, maker.service("press-7")) == "CERTIFICATE_REFUSED"
    await revoke(server, "press-7")
    assert await why_not(server, peer) == "CREDENTIALS_REVOKED"


async def test_the_grace_is_a_setting(valkey_url: str, maker: CertificateMaker, tmp_path: Path) -> None:
    peer = expired(maker, "press-7")
    async with issuing_server(valkey_url, maker, tmp_path, renewal_grace=1_800.0) as server:
        assert await why_not(server, peer) == "RENEWAL_TOO_LATE"
    async with issuing_server(valkey_url, maker, tmp_path, renewal_grace=7_200.0) as server:
        await renew(server, peer)
