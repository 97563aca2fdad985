"""Certificates that a server issues stand in the audit trail: the first of an agent, and each renewal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from distributor.agent import ClientCredentials
from distributor.agent.enrolment import EnrolmentOrder, enrol
from distributor.agent.identity_files import IdentityFiles
from distributor.app.audit_key_file import add_key
from distributor.identity.private_keys import new_key, private_key
from distributor.identity.renewal_proof import sign_renewal
from distributor.identity.signing_requests import signing_request
from distributor.model.audit_entry import AuditActor, AuditEvent, AuditOutcome
from distributor.v1 import credentials_pb2, enrolment_pb2
from tests.support.audited_server import StoredTrail, stored_trail
from tests.support.certificates import CertificateMaker, expired
from tests.support.issuing_server import AS_ADMIN, IssuingServer, issuing_server

PRESS = AuditActor("agent", "press-7", address="127.0.0.1")


@pytest.fixture(scope="module")
def maker() -> CertificateMaker:
    return CertificateMaker()


@pytest.fixture
async def server(valkey_url: str, maker: CertificateMaker, tmp_path: Path) -> AsyncIterator[IssuingServer]:
    add_key(tmp_path / "audit.key", "k1")
    audit = {"audit": "auto", "audit_key_file": tmp_path / "audit.key"}
    async with issuing_server(valkey_url, maker, tmp_path / "server", **audit) as server:
        yield server


@pytest.fixture
async def trail(server: IssuingServer, valkey_url: str, tmp_path: Path) -> AsyncIterator[StoredTrail]:
    async with stored_trail(valkey_url, tmp_path / "audit.key") as trail:
        yield trail


async def test_an_enrolment(server: IssuingServer, trail: StoredTrail, tmp_path: Path) -> None:
    request = credentials_pb2.CreateEnrolmentTokenRequest(agents="press-7", count=1)
    token = (await server.credentials.CreateEnrolmentToken(request, metadata=AS_ADMIN)).token
    await enrol(
        EnrolmentOrder("press-7", server.address, token, ClientCredentials()),
        IdentityFiles(tmp_path / "press-7.identity"),
    )
    row = await trail.until(AuditEvent.AGENT_ENROLLED)
    assert (row.entry.code, row.entry.outcome, row.entry.agent_id) == ("AGT03I", AuditOutcome.SUCCESS, "press-7")
    assert row.entry.actor == AuditActor("unknown", address="127.0.0.1")
    minted = (await trail.until(AuditEvent.TOKEN_MINTED, lambda row: row.entry.outcome is AuditOutcome.SUCCESS)).entry
    _, token_id, secret, _ = token.split(".")
    assert row.entry.details == {"token_id": token_id}
    assert minted.details["token_id"] == token_id
    assert secret not in repr(await trail.rows())


async def test_a_failed_enrolment_shows_nothing_of_its_token(server: IssuingServer, trail: StoredTrail) -> None:
    request = credentials_pb2.CreateEnrolmentTokenRequest(agents="press-7", count=1)
    token = (await server.credentials.CreateEnrolmentToken(request, metadata=AS_ADMIN)).token
    _, token_id, secret, _ = token.split(".")
    wanted = enrolment_pb2.EnrolRequest(token=f"{token_id}.{secret}", agent_id="press-7")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await server.enrolment.Enrol(wanted)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    row = await trail.until(AuditEvent.AGENT_ENROLLED)
    assert (row.entry.outcome, row.entry.details) == (AuditOutcome.FAILED, {})
    assert secret not in repr(await trail.rows())


async def test_a_renewal_on_the_stream_of_an_agent(
    server: IssuingServer, trail: StoredTrail, maker: CertificateMaker
) -> None:
    async with server.agent(maker.agent("press-7"), "press-7") as agent:
        asked = enrolment_pb2.CertificateRequest(request=signing_request(new_key()))
        await agent.send(certificate_request=asked)
        row = await trail.until(AuditEvent.AGENT_RENEWED)
    assert (row.entry.code, row.entry.agent_id, row.entry.actor) == ("AGT06I", "press-7", PRESS)
    assert row.entry.details == {"generation": 0, "present": "valid"}


async def test_a_renewal_of_an_expired_certificate(
    server: IssuingServer, trail: StoredTrail, maker: CertificateMaker
) -> None:
    peer, request = expired(maker, "press-7"), signing_request(new_key())
    start = enrolment_pb2.StartRenewalRequest(certificate=peer.certificate_pem)
    challenge = (await server.enrolment.StartRenewal(start)).challenge
    wanted = enrolment_pb2.RenewRequest(
        certificate=peer.certificate_pem,
        certificate_request=enrolment_pb2.CertificateRequest(request=request),
        challenge=challenge,
        signature=sign_renewal(private_key(peer.key_pem), challenge, request),
    )
    await server.enrolment.Renew(wanted)
    row = await trail.until(AuditEvent.AGENT_RENEWED)
    assert (row.entry.agent_id, row.entry.actor) == ("press-7", PRESS)
    assert row.entry.details == {"generation": 0, "present": "expired"}
    assert len(await trail.rows(AuditEvent.AGENT_RENEWED)) == 1, "once, not once more for the call"


@pytest.mark.parametrize("kind", ["agent", "service"])
async def test_a_refusal_names_whose_certificate_was_revoked(
    server: IssuingServer, maker: CertificateMaker, trail: StoredTrail, kind: str
) -> None:
    revoke_agent = credentials_pb2.RevokeAgentRequest(agent_id="press-7")
    revoke_service = credentials_pb2.RevokeServiceRequest(service="press-7")
    await server.credentials.RevokeAgent(revoke_agent, metadata=AS_ADMIN)
    await server.credentials.RevokeService(revoke_service, metadata=AS_ADMIN)
    peer = maker.agent("press-7") if kind == "agent" else maker.service("press-7")
    async with server.stream(peer) as agent:
        assert await agent.ended() is grpc.StatusCode.UNAUTHENTICATED
    row = await trail.until(AuditEvent.CALLER_REFUSED)
    assert row.entry.details == {"method": "Connect", "revoked": f"{kind}:press-7"}
