"""Labels of agents on a real server: what a certificate or token says of them comes before what they say themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from cryptography import x509
from google.rpc import error_details_pb2
from pydantic import SecretStr
from structlog.testing import capture_logs

from distributor.cli.token import TokenRequest, token_for
from distributor.identity.caller import CallerKind
from distributor.identity.certificate_labels import LABELS_OID, labels_extension
from distributor.identity.certificates import identity_of
from distributor.identity.private_keys import new_key, private_key, private_pem
from distributor.identity.renewal_proof import sign_renewal
from distributor.identity.signing_requests import signing_request
from distributor.settings.tokens import TokenSettings
from distributor.v1 import command_service_pb2, credentials_pb2, emergency_pb2, enrolment_pb2
from distributor.v1.agent_gateway_pb2_grpc import AgentGatewayServiceStub
from distributor.v1.command_service_pb2_grpc import CommandServiceStub
from distributor.v1.emergency_pb2_grpc import EmergencyServiceStub
from distributor.wire.status_details import details_of, unpacked
from tests.support.certificates import TRUST_DOMAIN, CertificateMaker, Issued
from tests.support.issuing_server import AS_ADMIN, IssuingServer, issuing_server
from tests.support.received_errors import ToldError, error_of
from tests.support.running_bridge import TOKEN_KEY, token_of
from tests.support.running_server import queue_request
from tests.support.wire_agent import WireAgent, hello

KEY: Final = TokenSettings(token_key=SecretStr(TOKEN_KEY))
LAB: Final = {"site": "lab"}
BERLIN: Final = {"site": "berlin"}


@pytest.fixture(scope="module")
def maker() -> CertificateMaker:
    return CertificateMaker()


@pytest.fixture
async def server(valkey_url: str, maker: CertificateMaker, tmp_path: Path) -> AsyncIterator[IssuingServer]:
    async with issuing_server(valkey_url, maker, tmp_path) as server:
        yield server


def labelled(maker: CertificateMaker, agent_id: str, labels: dict[str, str], **times: Any) -> Issued:
    """A certificate that says these labels of its agent."""
    return maker.issue(uris=[maker.uri(f"agent/{agent_id}")], extension=labels_extension(labels), **times)


async def enrolled(server: IssuingServer, agent_id: str, labels: dict[str, str]) -> Issued:
    """An agent that the server has given a certificate for a token with labels."""
    request = credentials_pb2.CreateEnrolmentTokenRequest(agents=agent_id, labels=labels)
    printed = (await server.credentials.CreateEnrolmentToken(request, metadata=AS_ADMIN)).token
    key = new_key()
    response = await server.enrolment.Enrol(
        enrolment_pb2.EnrolRequest(
            token=printed.removeprefix("enrol.").rpartition(".")[0],
            agent_id=agent_id,
            certificate_request=enrolment_pb2.CertificateRequest(request=signing_request(key)),
        )
    )
    return Issued(response.certificate.chain, private_pem(key), server.maker.pem)


@asynccontextmanager
async def token_agent(
    server: IssuingServer, agent_id: str, own_labels: list[str], **changes: Any
) -> AsyncIterator[WireAgent]:
    """An attached agent with a token."""
    token = token_for(KEY, TokenRequest(agent_id, "1h", CallerKind.AGENT, own_labels=own_labels))
    async with server.channel(None, server.address) as channel:
        call = AgentGatewayServiceStub(channel).Connect(metadata=(("authorization", f"Bearer {token}"),))
        agent = WireAgent(call)
        try:
            await agent.send(hello=hello(agent_id, **changes))
            await agent.until(lambda: agent.messages)
            yield agent
        finally:
            await agent.vanish()


def operator_of(labels: dict[str, str]) -> tuple[tuple[str, str]]:
    """The metadata of a user who may deal with agents that have these labels."""
    pairs = [f"{name}={value}" for name, value in labels.items()]
    return (("authorization", f"Bearer {token_of(KEY, 'operator', subject='ada', labels=pairs)}"),)


async def seen(server: IssuingServer, metadata: Any = AS_ADMIN) -> dict[str, dict[str, str]]:
    """The labels of the agents that a user sees."""
    async with server.channel(None, server.address) as channel:
        request = command_service_pb2.ListAgentsRequest()
        response = await CommandServiceStub(channel).ListAgents(request, metadata=metadata)
        return {agent.agent_id: dict(agent.labels) for agent in response.agents}


async def refusal(server: IssuingServer, agent_id: str, type_: str = "PRINT", metadata: Any = AS_ADMIN) -> ToldError:
    """The error for a command that is not queued."""
    async with server.channel(None, server.address) as channel:
        call = CommandServiceStub(channel).QueueCommand(queue_request(agent_id, type_), metadata=metadata)
        return await error_of(call)


async def stop(server: IssuingServer, selector: str) -> None:
    async with server.channel(None, server.address) as channel:
        request = emergency_pb2.StopRequest(scope=emergency_pb2.StopScope(selectors=[selector]))
        await EmergencyServiceStub(channel).Stop(request, metadata=AS_ADMIN)


# Certificates of this server's CA


async def test_the_labels_of_an_enrolment_count_without_a_word_of_the_agent(server: IssuingServer) -> None:
    peer = await enrolled(server, "press-7", LAB)
    async with server.agent(peer, "press-7", labels={"line": "1"}) as agent:
        assert await seen(server) == {"press-7": {"site": "lab", "line": "1"}}
        assert not agent.welcome.overruled_labels


async def test_a_stolen_agent_does_not_leave_the_stop_of_its_label(server: IssuingServer) -> None:
    peer = await enrolled(server, "press-7", LAB)
    await stop(server, "site=lab")
    async with server.agent(peer, "press-7", labels=BERLIN, halts={}) as agent:
        assert agent.welcome.halt.stop_id
        assert (await refusal(server, "press-7")).reason == "EMERGENCY_STOP"


async def test_a_stop_reaches_a_stolen_agent_that_is_attached(server: IssuingServer) -> None:
    peer = await enrolled(server, "press-7", LAB)
    async with server.agent(peer, "press-7", labels=BERLIN, halts={}) as agent:
        await stop(server, "site=lab")
        assert await agent.until(lambda: agent.halts)


async def test_a_stolen_agent_stays_with_its_tenant(server: IssuingServer) -> None:
    peer = await enrolled(server, "press-7", LAB)
    with capture_logs() as logs:
        async with server.agent(peer, "press-7", labels=BERLIN) as agent:
            assert await seen(server, operator_of(LAB)) == {"press-7": LAB}
            assert await seen(server, operator_of(BERLIN)) == {}
            assert (await refusal(server, "press-7", metadata=operator_of(BERLIN))).reason == "NOT_GRANTED"
            assert list(agent.welcome.overruled_labels) == ["site"]
    (line,) = [line for line in logs if line["event"] == "labels differ from the agent's credential"]
    assert (line["log_level"], line["agent_id"], line["labels"]) == ("warning", "press-7", ["site"])
    assert "berlin" not in str(line)


async def test_a_renewal_on_the_stream_keeps_the_labels(server: IssuingServer) -> None:
    peer = await enrolled(server, "press-7", LAB)
    key = new_key()
    async with server.agent(peer, "press-7", labels=BERLIN) as agent:
        await agent.send(certificate_request=enrolment_pb2.CertificateRequest(request=signing_request(key)))
        reply = await agent.until(
            lambda: next((one.certificate for one in agent.messages if one.HasField("certificate")), None)
        )
    assert dict(identity_of(reply.certificate.chain, TRUST_DOMAIN).labels) == LAB
    renewed = Issued(reply.certificate.chain, private_pem(key), server.maker.pem)
    async with server.agent(renewed, "press-7", labels=BERLIN):
        assert await seen(server) == {"press-7": LAB}


async def test_a_renewal_by_proof_keeps_the_labels(server: IssuingServer, maker: CertificateMaker) -> None:
    hours_ago = datetime.now(UTC) - timedelta(hours=2)
    peer = labelled(maker, "press-7", LAB, valid_from=hours_ago)
    request = signing_request(new_key())
    start = enrolment_pb2.StartRenewalRequest(certificate=peer.certificate_pem)
    challenge = (await server.enrolment.StartRenewal(start)).challenge
    response = await server.enrolment.Renew(
        enrolment_pb2.RenewRequest(
            certificate=peer.certificate_pem,
            certificate_request=enrolment_pb2.CertificateRequest(request=request),
            challenge=challenge,
            signature=sign_renewal(private_key(peer.key_pem), challenge, request),
        )
    )
    assert dict(identity_of(response.certificate.chain, TRUST_DOMAIN).labels) == LAB


async def test_a_malformed_extension_refuses_the_certificate(server: IssuingServer, maker: CertificateMaker) -> None:
    extension = x509.UnrecognizedExtension(LABELS_OID, b"\x0c\x02[]")
    async with server.stream(maker.issue(uris=[maker.uri("agent/press-7")], extension=extension)) as agent:
        assert await agent.ended() is grpc.StatusCode.UNAUTHENTICATED
        assert "labels must be an object" in agent.details
        info = unpacked(details_of(agent.trailing), error_details_pb2.ErrorInfo())
        assert info.reason == "CERTIFICATE_REFUSED"
        assert not agent.messages


# Labels that need proof


async def test_labels_that_need_proof_are_not_taken_from_a_hello(
    valkey_url: str, maker: CertificateMaker, tmp_path: Path
) -> None:
    async with issuing_server(valkey_url, maker, tmp_path, verified_labels=("site", "zone")) as server:
        with capture_logs() as logs:
            async with server.agent(maker.agent("press-7"), "press-7", labels={**BERLIN, "line": "1"}) as agent:
                assert await seen(server) == {"press-7": {"line": "1"}}
                assert await seen(server, operator_of(BERLIN)) == {}
                assert list(agent.welcome.overruled_labels) == ["site"]
        (line,) = [line for line in logs if line["event"] == "labels need proof by the agent's credential"]
        assert (line["log_level"], line["agent_id"], line["labels"]) == ("warning", "press-7", ["site"])
        assert "berlin" not in str(line)


@pytest.mark.parametrize("ca_key", [{}, {"ca_key": None}], ids=["own CA", "outside CA"])
async def test_all_labels_may_need_proof(
    valkey_url: str, maker: CertificateMaker, tmp_path: Path, ca_key: dict[str, Any]
) -> None:
    async with (
        issuing_server(valkey_url, maker, tmp_path, verified_labels=("*",), **ca_key) as server,
        server.agent(maker.agent("press-7"), "press-7", labels={**BERLIN, "line": "1"}),
        server.agent(labelled(maker, "press-8", LAB), "press-8", labels={"line": "2"}),
    ):
        assert await seen(server) == {"press-7": {}, "press-8": LAB}


async def test_types_go_by_proven_labels(valkey_url: str, maker: CertificateMaker, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[types.PRINT]\nlabels = { site = "berlin" }\n')
    async with (
        issuing_server(valkey_url, maker, tmp_path, verified_labels=("site",), policy_file=policy) as server,
        server.agent(labelled(maker, "press-7", LAB), "press-7", labels=BERLIN),
        server.agent(maker.agent("press-8"), "press-8", labels=BERLIN),
    ):
        for agent_id in ("press-7", "press-8"):
            assert (await refusal(server, agent_id)).reason == "AGENT_NOT_PERMITTED"


# Tokens


async def test_the_labels_of_a_token_overrule_those_of_a_hello(server: IssuingServer) -> None:
    async with token_agent(server, "press-7", ["site=lab"], labels={**BERLIN, "line": "1"}) as agent:
        assert await seen(server) == {"press-7": {"site": "lab", "line": "1"}}
        assert list(agent.welcome.overruled_labels) == ["site"]
        assert await seen(server, operator_of(BERLIN)) == {}


async def test_a_token_proves_labels(valkey_url: str, maker: CertificateMaker, tmp_path: Path) -> None:
    async with (
        issuing_server(valkey_url, maker, tmp_path, verified_labels=("site",)) as server,
        token_agent(server, "press-7", ["site=lab"], labels=BERLIN),
        token_agent(server, "press-8", [], labels=BERLIN),
    ):
        assert await seen(server) == {"press-7": LAB, "press-8": {}}
