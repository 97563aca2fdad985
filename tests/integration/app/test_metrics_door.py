"""Who reads /metrics of a server by a client certificate, and what the audit trail says of it."""

from __future__ import annotations

import asyncio
import http.client
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from distributor.identity.caller import CallerKind
from distributor.model.audit_entry import AuditActor, AuditEvent, AuditOutcome
from tests.support.audited_server import audited_server, stored_trail
from tests.support.certificates import HOUR, CertificateFiles, CertificateMaker, Issued
from tests.support.running_bridge import TOKEN_KEY, token_of
from tests.support.running_server import RunningServer
from tests.support.waiting import PATIENCE_SECONDS

POLICY: Final = """
[services.prometheus]
roles = ["viewer"]

[services.narrow]
roles = ["viewer"]
agents = ["web-*"]

[services.bridge]
roles = ["delegate"]
"""
REFUSED: Final = 0
"""Instead of a status: the handshake has failed."""


class Site:
    """The HTTP address of a server that knows its callers by certificates alone."""

    def __init__(self, server: RunningServer, maker: CertificateMaker, folder: Path, files: CertificateFiles) -> None:
        self.server = server
        self.maker = maker
        self.files = files
        self._folder = folder

    async def get(self, certificate: Issued | None, path: str = "/metrics", token: str = "") -> tuple[int, str]:
        """The status and body of a GET with this client certificate."""
        trusting = ssl.create_default_context(cafile=self.files.ca)
        if certificate is not None:
            own = certificate.write(self._folder / "client")
            trusting.load_cert_chain(own.certificate, own.key)
        return await asyncio.to_thread(self._get, trusting, path, {"Authorization": token} if token else {})

    def _get(self, context: ssl.SSLContext, path: str, headers: dict[str, str]) -> tuple[int, str]:
        port = self.server.process.http_port
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=PATIENCE_SECONDS)
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            status, body = response.status, response.read().decode()
            assert isinstance(connection.sock, ssl.SSLSocket)
            assert connection.sock.session is None or not connection.sock.session.has_ticket, "it could be resumed"
            return status, body
        except (ssl.SSLError, ConnectionError, http.client.RemoteDisconnected):
            return REFUSED, ""
        finally:
            connection.close()

    def flood(self, requests: int) -> None:
        """Ask this often for the metrics on one connection, without credentials."""
        trusting = ssl.create_default_context(cafile=self.files.ca)
        port = self.server.process.http_port
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=trusting, timeout=PATIENCE_SECONDS)
        for _ in range(requests):
            connection.request("GET", "/metrics")
            response = connection.getresponse()
            response.read()
            assert response.status == 401
        connection.close()


@asynccontextmanager
async def site_of(valkey_url: str, folder: Path, **changes: Any) -> AsyncIterator[Site]:
    """A server with `client_ca` and without a key for tokens, and with an audit trail."""
    maker = CertificateMaker()
    files = maker.server().write(folder, "server")
    authorities = folder / "client-ca.pem"
    authorities.write_bytes(maker.pem)
    (folder / "policy.toml").write_text(POLICY)
    settings: dict[str, Any] = {
        "tls_cert": files.certificate,
        "tls_key": files.key,
        "client_ca": authorities,
        "http_tls": True,
        "policy_file": folder / "policy.toml",
        "authenticator": None,
    }
    async with audited_server(valkey_url, folder / "audit.key", **settings | changes) as server:
        yield Site(server, maker, folder, files)


@pytest.fixture
async def site(valkey_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with site_of(valkey_url, tmp_path) as site:
        yield site


async def test_a_service_with_the_role_viewer_reads_the_metrics(site: Site) -> None:
    status, body = await site.get(site.maker.service("prometheus"))
    assert status == 200
    assert "distributor_agents_connected" in body


@pytest.mark.parametrize("name", ["narrow", "bridge", "unheard-of"])
async def test_another_service_does_not(site: Site, name: str) -> None:
    assert (await site.get(site.maker.service(name)))[0] == 403


async def test_nobody_else_does(site: Site) -> None:
    status, body = await site.get(None)
    assert (status, body) == (401, "credentials are required: the client certificate of a service\n")
    assert (await site.get(site.maker.agent("press-7")))[0] == 403
    assert (await site.get(site.maker.issue(hosts=["127.0.0.1"])))[0] == 401
    two = [site.maker.uri("service/prometheus"), site.maker.uri("service/narrow")]
    assert (await site.get(site.maker.issue(uris=two)))[0] == 401
    assert (await site.get(None, token="Bearer x.y.z"))[0] == 401


async def test_a_certificate_that_does_not_count_ends_the_handshake(site: Site) -> None:
    assert (await site.get(CertificateMaker("another CA").service("prometheus")))[0] == REFUSED
    begun = datetime.now(UTC) - 2 * HOUR
    assert (await site.get(site.maker.service("prometheus", valid_from=begun, lifetime=HOUR)))[0] == REFUSED


async def test_health_needs_no_certificate(site: Site) -> None:
    assert (await site.get(None, "/healthz")) == (200, "ok\n")
    assert (await site.get(None, "/readyz"))[0] == 200


async def test_other_authorities_count_from_the_next_connection_on(site: Site) -> None:
    former, successor = site.maker.service("prometheus"), CertificateMaker("the next CA")
    assert (await site.get(former))[0] == 200
    assert site.server.settings.client_ca is not None
    site.server.settings.client_ca.write_bytes(successor.pem)
    assert (await site.get(successor.service("prometheus")))[0] == 200
    assert (await site.get(former))[0] == REFUSED


async def test_a_token_counts_beside_certificates(valkey_url: str, tmp_path: Path) -> None:
    async with site_of(valkey_url, tmp_path, token_key=TOKEN_KEY) as site:
        token = f"Bearer {token_of(site.server.settings, 'viewer')}"
        assert (await site.get(None, token=token))[0] == 200
        assert (await site.get(site.maker.service("prometheus")))[0] == 200
        status, body = await site.get(site.maker.service("prometheus"), token=token)
        assert status == 401
        assert "two identities" in body
        assert "a token (Authorization: Bearer …), or the client certificate" in (await site.get(None))[1]


async def test_too_many_tokens_that_do_not_verify_are_not_checked(valkey_url: str, tmp_path: Path) -> None:
    limits = {"failed_credentials_rate": 0.01, "failed_credentials_burst": 2}
    async with site_of(valkey_url, tmp_path, token_key=TOKEN_KEY, **limits) as site:
        statuses = [(await site.get(None, token="Bearer x.y.z"))[0] for _ in range(3)]
        assert statuses == [401, 401, 429]


async def test_the_audit_trail_says_who_reads_metrics_and_who_was_refused(
    site: Site, valkey_url: str, tmp_path: Path
) -> None:
    assert (await site.get(None))[0] == 401
    for _ in range(3):
        assert (await site.get(site.maker.service("unheard-of")))[0] == 403
        assert (await site.get(site.maker.service("prometheus")))[0] == 200
    async with stored_trail(valkey_url, tmp_path / "audit.key") as trail:
        refused = (await trail.until(AuditEvent.CALLER_REFUSED)).entry
        assert (refused.code, refused.outcome, refused.reason) == (
            "AUT02W",
            AuditOutcome.REFUSED,
            "CREDENTIALS_REQUIRED",
        )
        assert (refused.actor, refused.details) == (AuditActor("unknown", address="127.0.0.1"), {"method": "/metrics"})
        denied = (await trail.until(AuditEvent.PERMISSION_DENIED)).entry
        assert denied.actor == AuditActor(CallerKind.SERVICE, "unheard-of", address="127.0.0.1")
        assert (denied.reason, denied.details) == ("ROLE_MISSING", {"method": "/metrics"})
        await trail.until(AuditEvent.CALLER_CONNECTED)
        admitted = await trail.rows(AuditEvent.CALLER_CONNECTED)
        assert [row.entry.actor.subject for row in admitted] == ["prometheus"], "once, however often it scrapes"


async def test_a_flood_of_refusals_leaves_few_rows(site: Site, valkey_url: str, tmp_path: Path) -> None:
    await asyncio.to_thread(site.flood, 2_500)
    async with stored_trail(valkey_url, tmp_path / "audit.key") as trail:
        await trail.until(AuditEvent.CALLER_REFUSED)
        await site.server.process.stop()
        rows = await trail.rows(AuditEvent.CALLER_REFUSED)
        assert sum(row.entry.count for row in rows) == 2_500
        assert len(rows) < 1_100, "1,000 at once, and few later, however fast they come"
