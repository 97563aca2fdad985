"""Enrolment over real TLS: tokens, certificates, and what strangers get."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

from distributor.identity.certificates import PeerKind, PeerName, identity_of
from distributor.identity.enrolment_tokens import TokenSecret, parsed_token, token_text
from distributor.identity.private_keys import new_key, private_pem
from distributor.identity.signing_requests import signing_request
from distributor.model.enrolment import NewEnrolmentToken
from distributor.store import keys
from distributor.store.connections import StoreConnections
from distributor.v1 import credentials_pb2, enrolment_pb2
from distributor.wire.status_details import details_of, unpacked
from tests.support.certificates import TRUST_DOMAIN, CertificateMaker, Issued, request_pem
from tests.support.issuing_server import AS_ADMIN, IssuingServer, issuing_server
from tests.support.store_world import StoreWorld


@pytest.fixture
def maker() -> CertificateMaker:
    return CertificateMaker()


@pytest.fixture
async def server(valkey_url: str, maker: CertificateMaker, tmp_path: Path) -> AsyncIterator[IssuingServer]:
    async with issuing_server(valkey_url, maker, tmp_path) as server:
        yield server


@asynccontextmanager
async def store(valkey_url: str) -> AsyncIterator[StoreWorld]:
    """What one who may write to Valkey can do."""
    connections = StoreConnections.to(valkey_url)
    try:
        yield StoreWorld(connections)
    finally:
        await connections.close()


async def token(server: IssuingServer, agents: str = "press-7", **changes: Any) -> str:
    """A new token, as it is printed."""
    request = credentials_pb2.CreateEnrolmentTokenRequest(agents=agents, **changes)
    response: credentials_pb2.CreateEnrolmentTokenResponse
    response = await server.credentials.CreateEnrolmentToken(request, metadata=AS_ADMIN)
    return response.token


async def enrol(
    server: IssuingServer, printed: str, agent_id: str = "press-7", *, request: bytes = b"", replace: bool = False
) -> tuple[enrolment_pb2.EnrolResponse, Issued]:
    """Enrol with a new key, or the request given."""
    secret, _ = parsed_token(printed)
    key = new_key()
    asked = enrolment_pb2.EnrolRequest(
        token=f"{secret.token_id}.{secret.secret}",
        agent_id=agent_id,
        certificate_request=enrolment_pb2.CertificateRequest(request=request or signing_request(key)),
        replace=replace,
    )
    response = await server.enrolment.Enrol(asked)
    return response, Issued(response.certificate.chain, private_pem(key), server.maker.pem)


async def enrolled(server: IssuingServer, agent_id: str = "press-7") -> Issued:
    """An agent with a certificate of its own."""
    return (await enrol(server, await token(server, agent_id), agent_id))[1]


def reason_of(error: grpc.aio.AioRpcError) -> str:
    return str(unpacked(details_of(error.trailing_metadata()), error_details_pb2.ErrorInfo()).reason)


async def test_an_enrolled_agent_connects_with_its_certificate(server: IssuingServer) -> None:
    response, peer = await enrol(server, await token(server, labels={"site": "lab"}))
    identity = identity_of(peer.certificate_pem, TRUST_DOMAIN)
    assert identity.peer == PeerName(PeerKind.AGENT, "press-7")
    assert identity.generation == 1
    assert response.labels == {"site": "lab"}
    assert response.trust_domain == TRUST_DOMAIN
    assert response.servers == f":{server.process.mtls_port}"
    assert response.certificate.server_ca == server.maker.pem
    async with server.agent(peer, "press-7") as agent:
        assert agent.welcome.epoch == 1


async def test_the_printed_token_has_the_servers_ca(server: IssuingServer) -> None:
    _, ca = parsed_token(await token(server))
    assert ca.split() == server.maker.pem.split()


async def test_names_in_a_request_do_not_count(server: IssuingServer) -> None:
    foreign = request_pem([f"spiffe://{TRUST_DOMAIN}/agent/press-8"])
    response, _ = await enrol(server, await token(server), request=foreign)
    assert identity_of(response.certificate.chain, TRUST_DOMAIN).peer.name == "press-7"


async def test_a_token_serves_once(server: IssuingServer) -> None:
    printed = await token(server)
    await enrol(server, printed)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await enrol(server, printed)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert reason_of(caught.value) == "ENROLMENT_TOKEN_REFUSED"


async def test_a_token_expires(server: IssuingServer) -> None:
    printed = await token(server, expires_in=Duration(seconds=1))
    await asyncio.sleep(1.1)
    with pytest.raises(grpc.aio.AioRpcError, match="expired"):
        await enrol(server, printed)


async def test_a_token_that_someone_wrote_into_valkey_admits_nobody(server: IssuingServer, valkey_url: str) -> None:
    forged = TokenSecret("forgedtoken1", "f" * 43)
    async with store(valkey_url) as world:
        new = NewEnrolmentToken(forged.token_id, forged.digest, "press-7", {"site": "lab"}, 1, 60_000)
        await world.enrolment.create(new)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await enrol(server, token_text(forged, b""))
    assert reason_of(caught.value) == "ENROLMENT_TOKEN_REFUSED"


@pytest.mark.parametrize(("field", "value"), [("agents", "press-8"), ("labels", '{"site": "berlin"}')])
async def test_a_token_that_someone_changed_in_valkey_admits_nobody(
    server: IssuingServer, valkey_url: str, field: str, value: str
) -> None:
    printed = await token(server, labels={"site": "lab", "line": "1"})
    async with store(valkey_url) as world:
        key = keys.ENROLMENT_TOKEN.format(token_id=parsed_token(printed)[0].token_id)
        assert await world.connection.call("HSET", key, field, value) == 0
    for agent_id in ("press-7", "press-8"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await enrol(server, printed, agent_id)
        assert reason_of(caught.value) == "ENROLMENT_TOKEN_REFUSED"


async def test_a_token_is_for_its_agent(server: IssuingServer) -> None:
    printed = await token(server)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await enrol(server, printed, "press-8")
    assert reason_of(caught.value) == "ENROLMENT_TOKEN_REFUSED"
    await enrol(server, printed)


async def test_a_group_token_serves_as_often_as_it_says(server: IssuingServer) -> None:
    printed = await token(server, "press-*", count=2)
    names = [f"press-{number}" for number in range(4)]
    tries = await asyncio.gather(*(enrol(server, printed, name) for name in names), return_exceptions=True)
    assert sum(isinstance(one, tuple) for one in tries) == 2
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await enrol(server, await token(server, "press-*", count=9), "lathe-1")
    assert reason_of(caught.value) == "ENROLMENT_TOKEN_REFUSED"


async def test_a_request_that_cannot_be_signed_uses_no_token(server: IssuingServer) -> None:
    printed = await token(server)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await enrol(server, printed, request=b"nonsense")
    assert reason_of(caught.value) == "INVALID_CERTIFICATE_REQUEST"
    await enrol(server, printed)


async def test_a_live_agent_keeps_its_id_unless_it_is_to_be_replaced(server: IssuingServer) -> None:
    first = await enrolled(server)
    printed = await token(server)
    async with server.agent(first, "press-7") as agent:
        with pytest.raises(grpc.aio.AioRpcError, match="another live agent is connected as 'press-7'") as caught:
            await enrol(server, printed)
        assert reason_of(caught.value) == "AGENT_ID_TAKEN"
        _, second = await enrol(server, printed, replace=True)
        assert await agent.ended() is grpc.StatusCode.UNAUTHENTICATED
        assert "revoked" in agent.details
    async with server.stream(first) as old:
        assert await old.ended() is grpc.StatusCode.UNAUTHENTICATED
    async with server.agent(second, "press-7"):
        pass


async def test_an_outside_ca_issues_elsewhere(valkey_url: str, maker: CertificateMaker, tmp_path: Path) -> None:
    async with issuing_server(valkey_url, maker, tmp_path, ca_key=None) as server:
        for failing in (token(server), server.enrolment.Enrol(enrolment_pb2.EnrolRequest(token="a.b"))):
            with pytest.raises(grpc.aio.AioRpcError, match="ca_key") as caught:
                await failing
            assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert reason_of(caught.value) == "NO_AUTHORITY"
        async with server.agent(maker.agent("press-7"), "press-7"):
            pass


async def test_agents_are_sent_where_they_can_connect(valkey_url: str, maker: CertificateMaker, tmp_path: Path) -> None:
    async with issuing_server(valkey_url, maker, tmp_path, agent_servers="a.example:1,b.example:2") as server:
        response, _ = await enrol(server, await token(server))
        assert response.servers == "a.example:1,b.example:2"


async def test_the_lifetime_is_a_setting(valkey_url: str, maker: CertificateMaker, tmp_path: Path) -> None:
    async with issuing_server(valkey_url, maker, tmp_path, certificate_lifetime=600.0) as server:
        response, peer = await enrol(server, await token(server))
        certificate = response.certificate
        assert certificate.expire_time.seconds - certificate.issue_time.seconds in (599, 600, 601)
        assert abs(identity_of(peer.certificate_pem, TRUST_DOMAIN).expires - certificate.expire_time.seconds) <= 1


async def test_the_trust_domain_is_a_setting(valkey_url: str, maker: CertificateMaker, tmp_path: Path) -> None:
    async with issuing_server(valkey_url, maker, tmp_path, trust_domain="acme.example") as server:
        response, peer = await enrol(server, await token(server))
        assert response.trust_domain == "acme.example"
        assert identity_of(peer.certificate_pem, "acme.example").peer.name == "press-7"


async def test_only_administrators_make_tokens(server: IssuingServer) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await server.credentials.CreateEnrolmentToken(credentials_pb2.CreateEnrolmentTokenRequest(agents="press-7"))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    peer = await enrolled(server)
    async with server.channel(peer, server.mutual) as channel:
        call: Any = channel.unary_unary("/distributor.v1.CredentialService/CreateEnrolmentToken")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"")
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agents": "press 7"}, "agents must be an agent id"),
        ({"agents": "press-7", "count": 2}, "count must be 1"),
        ({"agents": "press-*", "count": 100_001}, "count must be 1 to 100,000"),
        ({"agents": "press-7", "expires_in": Duration(seconds=31 * 86_400)}, "1 s to 30 days"),
        ({"agents": "press-7", "labels": {"": "x"}}, "labels must have names"),
    ],
)
async def test_tokens_that_make_no_sense_are_refused(
    server: IssuingServer, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=message) as caught:
        await token(server, **changes)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_certificate_of_a_stranger_with_the_right_name_does_not_connect(server: IssuingServer) -> None:
    stranger = CertificateMaker("another CA").agent("press-7")
    async with server.stream(replace(stranger, ca_pem=server.maker.pem)) as agent:
        assert await agent.ended() is grpc.StatusCode.UNAVAILABLE


async def test_guesses_of_enrolment_tokens_are_refused_unread_after_too_many(
    valkey_url: str, maker: CertificateMaker, tmp_path: Path
) -> None:
    limits = {"failed_credentials_rate": 0.01, "failed_credentials_burst": 2}
    async with issuing_server(valkey_url, maker, tmp_path, **limits) as server:
        good = await token(server)
        guess = enrolment_pb2.EnrolRequest(token=f"{good.partition('.')[0]}.guess", agent_id="press-7")
        codes = []
        for _ in range(4):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await server.enrolment.Enrol(guess)
            codes.append(caught.value.code().name)
        assert codes == ["PERMISSION_DENIED"] * 2 + ["RESOURCE_EXHAUSTED"] * 2
        with pytest.raises(grpc.aio.AioRpcError, match="failed_credentials_rate"):
            await enrol(server, good)
