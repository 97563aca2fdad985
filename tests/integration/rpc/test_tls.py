"""TLS between servers, agents and callers, with real certificates that are replaced while they serve."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from structlog.testing import capture_logs

from distributor.agent import Agent
from distributor.app.server_process import ServerProcess, serving
from distributor.client import ClientCredentials, ClientOptions, CommandClient, CommandRequest
from distributor.errors import Unauthenticated, Unavailable
from distributor.identity.caller import Caller
from distributor.model.retry_policy import RetryPolicy
from distributor.rpc.interceptors.authentication import AuthContext, Authenticator, Metadata
from tests.support.certificates import CertificateFiles, CertificateMaker
from tests.support.known_callers import AGENT, OPERATOR, KnownCallers
from tests.support.running_server import quick_settings
from tests.support.serving_agent import background

ONCE = RetryPolicy(attempts=1, first_ms=1, max_ms=1)


@pytest.fixture
def maker() -> CertificateMaker:
    return CertificateMaker()


@pytest.fixture
def files(maker: CertificateMaker, tmp_path: Path) -> CertificateFiles:
    return maker.server().write(tmp_path, "server")


@asynccontextmanager
async def served(
    valkey_url: str, files: CertificateFiles, authenticator: Authenticator | None = None, **changes: Any
) -> AsyncIterator[ServerProcess]:
    settings = quick_settings(valkey_url, tls_cert=files.certificate, tls_key=files.key, **changes)
    async with serving(settings, authenticator=authenticator) as process:
        yield process


class WithCertificate:
    """Takes whoever has a client certificate for an operator."""

    async def caller(self, metadata: Metadata, transport: AuthContext, address: str) -> Caller | None:
        return OPERATOR if transport().get("x509_pem_cert") else None


def client(address: str, credentials: ClientCredentials, tries: RetryPolicy = ONCE) -> CommandClient:
    return CommandClient(address, ClientOptions(calls=tries, credentials=credentials))


async def refused(address: str, credentials: ClientCredentials) -> str:
    """Why no call gets through."""
    async with client(address, credentials) as calls:
        with pytest.raises(Unavailable) as caught:
            await calls.agents_page()
    return str(caught.value)


async def test_callers_and_agents_use_tls(valkey_url: str, files: CertificateFiles) -> None:
    trusting = ClientCredentials(ca=files.ca)
    async with served(valkey_url, files) as server:
        address = f"localhost:{server.port}"
        agent = Agent("agent123", server=address)
        agent.journal, agent.credentials = None, trusting
        async with client(address, trusting) as calls, background(agent.serve()):
            queued = await calls.queue(CommandRequest("agent123", "PING"))
            assert (await calls.wait(queued.command_id, timeout_seconds=30)).status == "completed"
            agent.stop()


async def test_what_does_not_match_is_named(
    valkey_url: str, files: CertificateFiles, maker: CertificateMaker, tmp_path: Path
) -> None:
    stranger = CertificateMaker("another CA").server().write(tmp_path, "stranger")
    async with served(valkey_url, files) as server:
        address = f"127.0.0.1:{server.port}"
        assert "not signed by a trusted authority; set tls_ca" in await refused(
            address, ClientCredentials(ca=stranger.ca)
        )
        assert "not signed by a trusted authority" in await refused(address, ClientCredentials(tls=True))
        assert "one end may use TLS and the other not" in await refused(address, ClientCredentials())
    elsewhere = maker.server("elsewhere.example").write(tmp_path, "elsewhere")
    async with served(valkey_url, elsewhere) as server:
        text = await refused(f"127.0.0.1:{server.port}", ClientCredentials(ca=files.ca))
        assert "its certificate is for another host name" in text
    async with serving(quick_settings(valkey_url)) as server:
        text = await refused(f"127.0.0.1:{server.port}", ClientCredentials(ca=files.ca))
        assert "it does not speak TLS on this port" in text


async def test_an_expired_certificate_is_named(valkey_url: str, maker: CertificateMaker, tmp_path: Path) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=2)
    old = maker.server(valid_from=long_ago).write(tmp_path, "old")
    async with served(valkey_url, old) as server:
        text = await refused(f"127.0.0.1:{server.port}", ClientCredentials(ca=old.ca))
        assert "its certificate has expired" in text


async def test_mutual_tls_has_an_address_of_its_own(
    valkey_url: str, files: CertificateFiles, maker: CertificateMaker, tmp_path: Path
) -> None:
    own = maker.service("billing").write(tmp_path, "billing")
    stranger = CertificateMaker("another CA").service("billing").write(tmp_path, "stranger")
    anonymous = ClientCredentials(ca=files.ca)
    known = replace(anonymous, certificate=own.certificate, key=own.key)
    async with served(valkey_url, files, WithCertificate(), client_ca=files.ca, mtls_listen="127.0.0.1:0") as server:
        mutual = f"127.0.0.1:{server.mtls_port}"
        assert "requires a client certificate" in await refused(mutual, anonymous)
        wrong = replace(anonymous, certificate=stranger.certificate, key=stranger.key)
        assert "requires a client certificate" in await refused(mutual, wrong)
        for address in (mutual, f"127.0.0.1:{server.port}"):
            channel = grpc.aio.secure_channel(
                address,
                grpc.ssl_channel_credentials(files.ca.read_bytes(), own.key.read_bytes(), own.certificate.read_bytes()),
            )
            async with channel:
                stub: Any = HealthStub(channel)
                response = await stub.Check(health_pb2.HealthCheckRequest())
            assert response.status == health_pb2.HealthCheckResponse.SERVING
        async with client(mutual, known) as calls:
            await calls.agents_page()


async def test_new_connections_see_a_new_certificate_and_old_ones_live_on(
    valkey_url: str, files: CertificateFiles, maker: CertificateMaker
) -> None:
    async with served(valkey_url, files) as server:
        address = f"127.0.0.1:{server.port}"
        before = ClientCredentials(ca=files.ca.with_name("before.pem"))
        assert before.ca is not None
        before.ca.write_bytes(maker.pem)
        async with client(address, before) as old:
            await old.agents_page()
            successor = CertificateMaker("a new CA").server()
            successor.write(files.certificate.parent, "server")
            await old.agents_page()
            assert "not signed by a trusted authority" in await refused(address, before)
            async with client(address, ClientCredentials(ca=files.ca)) as new:
                await new.agents_page()


async def test_an_unusable_new_certificate_keeps_the_old_one(
    valkey_url: str, files: CertificateFiles, maker: CertificateMaker
) -> None:
    trusting = ClientCredentials(ca=files.ca)
    with capture_logs() as logs:
        async with served(valkey_url, files) as server:
            address = f"127.0.0.1:{server.port}"
            files.key.write_bytes(maker.server().key_pem)
            for _ in range(2):
                async with client(address, trusting) as calls:
                    await calls.agents_page()
            files.key.unlink()
            async with client(address, trusting) as calls:
                await calls.agents_page()
            maker.server().write(files.key.parent, "server")
            async with client(address, trusting) as calls:
                await calls.agents_page()
    changes = [line for line in logs if line["event"].startswith("certificate files changed")]
    assert [line["log_level"] for line in changes] == ["error", "error", "info"]
    assert "(tls_key) is not the key of the first certificate" in changes[0]["fault"]
    assert "(tls_key): No such file" in changes[1]["fault"]


async def test_a_client_uses_a_new_certificate_for_new_calls(
    valkey_url: str, files: CertificateFiles, maker: CertificateMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distributor.client.server_channels.CHECK_SECONDS", 0.0)
    own = maker.service("billing").write(tmp_path, "own")
    known = ClientCredentials(files.ca, own.certificate, own.key)
    async with (
        served(valkey_url, files, WithCertificate(), client_ca=files.ca, mtls_listen="127.0.0.1:0") as server,
        client(f"127.0.0.1:{server.mtls_port}", known) as calls,
    ):
        queued = await calls.queue(CommandRequest("agent123", "PRINT"))
        watching = calls.watch(queued.command_id)
        await anext(watching)
        CertificateMaker("another CA").service("billing").write(tmp_path, "own")
        with pytest.raises(Unavailable):
            await calls.agents_page()
        maker.service("billing").write(tmp_path, "own")
        await calls.cancel(queued.command_id)
        assert [update async for update in watching], "the watch went on over the old connection"


async def test_servers_with_certificates_for_their_own_names(
    valkey_url: str, maker: CertificateMaker, tmp_path: Path
) -> None:
    by_name = maker.server("localhost").write(tmp_path, "name")
    by_address = maker.server("127.0.0.1").write(tmp_path, "address")
    async with served(valkey_url, by_name) as first, served(valkey_url, by_address) as second:
        servers = f"localhost:{first.port},127.0.0.1:{second.port}"
        tries = RetryPolicy(attempts=6, first_ms=50, max_ms=500)
        async with client(servers, ClientCredentials(ca=by_name.ca), tries) as calls:
            await calls.agents_page()
            await first.stop()
            await calls.agents_page()


async def test_a_server_that_never_finishes_its_handshake_is_passed_over(
    valkey_url: str, files: CertificateFiles
) -> None:
    connected = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()
        writer.close()

    async with served(valkey_url, files) as server, await asyncio.start_server(silent, "127.0.0.1", 0) as mute:
        servers = f"127.0.0.1:{mute.sockets[0].getsockname()[1]},localhost:{server.port}"
        async with client(
            servers, ClientCredentials(ca=files.ca), RetryPolicy(attempts=3, first_ms=1, max_ms=1)
        ) as calls:
            await calls.agents_page()
            assert connected.is_set()


async def test_tokens_are_sent_and_follow_their_file(valkey_url: str, files: CertificateFiles, tmp_path: Path) -> None:
    agents, callers = tmp_path / "agent.token", tmp_path / "caller.token"
    agents.write_text(f"{AGENT.subject}\n")
    callers.write_text("nobody")
    trusting = ClientCredentials(ca=files.ca)
    async with served(valkey_url, files, KnownCallers(AGENT, OPERATOR)) as server:
        address = f"localhost:{server.port}"
        agent = Agent("agent123", server=address)
        agent.journal, agent.credentials = None, replace(trusting, token_file=agents)
        async with (
            client(address, replace(trusting, token_file=callers)) as calls,
            background(agent.serve()),
        ):
            with pytest.raises(Unauthenticated):
                await calls.agents_page()
            callers.write_text(OPERATOR.subject)
            queued = await calls.queue(CommandRequest("agent123", "PING"))
            assert (await calls.wait(queued.command_id, timeout_seconds=30)).status == "completed"
            agent.stop()
            callers.unlink()
            await calls.agents_page()
