"""An agent that enrols, connects with its certificate, and keeps that valid."""

from __future__ import annotations

import stat
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from distributor.agent import Agent, ClientCredentials
from distributor.agent.enrolment import EnrolmentOrder, enrol
from distributor.agent.identity_files import EnrolmentFacts, IdentityFiles
from distributor.errors import FailedPrecondition, InvalidArgument, Unavailable
from distributor.identity.certificates import certificate_part, identity_of, validity_of
from distributor.v1 import credentials_pb2
from tests.support.certificates import TRUST_DOMAIN, CertificateMaker, Issued
from tests.support.issuing_server import AS_ADMIN, IssuingServer, issuing_server
from tests.support.serving_agent import background
from tests.support.waiting import until

ANYTHING = ClientCredentials()


@pytest.fixture(scope="module")
def maker() -> CertificateMaker:
    return CertificateMaker()


@pytest.fixture
async def server(valkey_url: str, maker: CertificateMaker, tmp_path: Path) -> AsyncIterator[IssuingServer]:
    async with issuing_server(valkey_url, maker, tmp_path / "server") as server:
        yield server


async def token(server: IssuingServer) -> str:
    request = credentials_pb2.CreateEnrolmentTokenRequest(agents="press-7", labels={"site": "lab"})
    response = await server.credentials.CreateEnrolmentToken(request, metadata=AS_ADMIN)
    return str(response.token)


async def enrolled(server: IssuingServer, folder: Path) -> IdentityFiles:
    """The files of press-7, which trusts what the token says."""
    files = IdentityFiles(folder / "press-7.identity")
    await enrol(EnrolmentOrder("press-7", server.address, await token(server), ANYTHING), files)
    return files


def agent_with(files: IdentityFiles) -> Agent:
    agent = Agent("press-7", server=files.facts().servers)
    agent.journal = None
    agent.credentials = ClientCredentials(ca=files.trusted, certificate=files.credential, key=files.credential)
    agent.identity = files
    return agent


def stored(maker: CertificateMaker, server: IssuingServer, folder: Path, age: timedelta) -> IdentityFiles:
    """The files of an agent whose certificate expired so long ago."""
    peer: Issued = maker.agent("press-7", valid_from=datetime.now(UTC) - age - timedelta(days=1), lifetime=timedelta(1))
    files = IdentityFiles(folder / "press-7.identity")
    facts = EnrolmentFacts("press-7", server.mutual, server.address, TRUST_DOMAIN)
    files.create(peer.key_pem, peer.certificate_pem, maker.pem, facts)
    return files


def expires(files: IdentityFiles) -> float:
    return validity_of(certificate_part(files.credential_pem()))[1]


async def test_an_agent_enrols_and_connects(server: IssuingServer, tmp_path: Path) -> None:
    files = await enrolled(server, tmp_path)
    assert files.facts() == EnrolmentFacts("press-7", server.mutual, server.address, TRUST_DOMAIN, {"site": "lab"})
    for path in files.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(files.folder.stat().st_mode) == 0o700
    agent = agent_with(files)
    async with background(agent.serve()):
        await until(lambda: server.process.has_agent("press-7"))
        agent.stop()


async def test_an_agent_is_told_that_its_labels_do_not_count(server: IssuingServer, tmp_path: Path) -> None:
    agent = agent_with(await enrolled(server, tmp_path))
    agent.labels = {"site": "berlin", "line": "1"}
    event = "the server takes these labels from the agent's credential only"
    with capture_logs() as logs:
        async with background(agent.serve()):
            await until(lambda: any(line["event"] == event for line in logs))
            agent.stop()
    assert [line["labels"] for line in logs if line["event"] == event] == [("site",)]


async def test_the_server_must_have_the_certificate_of_the_token(
    server: IssuingServer, valkey_url: str, tmp_path: Path
) -> None:
    impostor = CertificateMaker("another CA")
    printed, files = await token(server), IdentityFiles(tmp_path / "press-7.identity")
    async with issuing_server(valkey_url, impostor, tmp_path / "impostor") as other:
        # Whatever else the host trusts.
        trusting = ClientCredentials(ca=tmp_path / "impostor" / "server-ca.pem")
        with pytest.raises(Unavailable, match="not signed by a trusted authority"):
            await enrol(EnrolmentOrder("press-7", other.address, printed, trusting), files)
    assert not files.exists
    await enrol(EnrolmentOrder("press-7", server.address, printed, ANYTHING), files)


async def test_a_damaged_token_is_not_sent(server: IssuingServer, tmp_path: Path) -> None:
    printed = await token(server)
    with pytest.raises(InvalidArgument, match="malformed"):
        await enrol(EnrolmentOrder("press-7", server.address, printed[:-200] + "!", ANYTHING), IdentityFiles(tmp_path))


async def test_the_certificate_is_renewed_with_a_new_key_and_used(
    valkey_url: str, maker: CertificateMaker, tmp_path: Path
) -> None:
    with capture_logs() as logs:
        async with issuing_server(valkey_url, maker, tmp_path / "server", certificate_lifetime=8.0) as server:
            files = await enrolled(server, tmp_path)
            first = files.credential_pem()
            agent = agent_with(files)
            async with background(agent.serve()):
                await until(lambda: server.process.has_agent("press-7"))
                await until(lambda: files.credential_pem() != first)
                assert time.time() < expires(files)
                second = files.credential_pem()
                assert certificate_part(second) != certificate_part(first)
                assert second.split(b"-----BEGIN CERTIFICATE")[0] != first.split(b"-----BEGIN CERTIFICATE")[0]
                assert identity_of(certificate_part(second), TRUST_DOMAIN).generation == 1

                def epochs() -> set[object]:
                    return {line["epoch"] for line in logs if line["event"] == "agent attached"}

                # The first stream ends with the first certificate.
                await until(lambda: len(epochs()) > 1)
                agent.stop()


async def test_after_a_sleep_an_expired_certificate_is_renewed_before_connecting(
    server: IssuingServer, maker: CertificateMaker, tmp_path: Path
) -> None:
    files = stored(maker, server, tmp_path, timedelta(hours=1))
    agent = agent_with(files)
    async with background(agent.serve()):
        await until(lambda: server.process.has_agent("press-7"))
        assert expires(files) > time.time()
        agent.stop()


async def test_after_the_grace_the_agent_says_that_it_must_enrol_again(
    server: IssuingServer, maker: CertificateMaker, tmp_path: Path
) -> None:
    files = stored(maker, server, tmp_path, timedelta(days=9))
    with pytest.raises(FailedPrecondition, match="enrol the agent again") as caught:
        await agent_with(files).serve()
    assert caught.value.reason == "RENEWAL_TOO_LATE"
