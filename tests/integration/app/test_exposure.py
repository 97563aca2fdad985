"""What listens beyond loopback needs TLS and authentication, unless it is said to be insecure."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from distributor.app.bridge_process import serving_dashboards
from distributor.app.server_process import serving
from distributor.errors import ConfigurationError
from distributor.settings import BridgeSettings, ServerSettings
from tests.support.certificates import CertificateFiles, CertificateMaker
from tests.support.own_logs import own_logs
from tests.support.peer_certificate import peer_certificate
from tests.support.running_bridge import TOKEN_KEY, RunningBridge, bridge_settings
from tests.support.running_server import quick_settings, running_server

EVERYWHERE = "0.0.0.0:0"


@pytest.fixture
def files(tmp_path: Path) -> CertificateFiles:
    return CertificateMaker().server().write(tmp_path, "server")


async def refused(settings: ServerSettings) -> str:
    with pytest.raises(ConfigurationError) as caught:
        async with serving(settings):
            pytest.fail("it serves")
    assert caught.value.reason == "EXPOSED"
    return str(caught.value)


async def test_a_server_in_plain_text_beyond_loopback_is_refused(valkey_url: str, files: CertificateFiles) -> None:
    exposed = quick_settings(valkey_url, listen=EVERYWHERE)
    text = await refused(exposed)
    assert f"listen {EVERYWHERE} is beyond loopback without TLS: set tls_cert and tls_key" in text
    assert f"listen {EVERYWHERE} is beyond loopback without authentication" in text
    assert "or set insecure" in text
    text = await refused(quick_settings(valkey_url, listen=EVERYWHERE, tls_cert=files.certificate, tls_key=files.key))
    assert "without TLS" not in text
    assert "without authentication" in text
    text = await refused(quick_settings(valkey_url, http_listen=EVERYWHERE))
    assert f"http_listen {EVERYWHERE} is beyond loopback without TLS: set http_tls" in text


async def test_insecure_permits_it_and_says_so(valkey_url: str) -> None:
    with own_logs() as logs:
        async with serving(quick_settings(valkey_url, listen=EVERYWHERE, http_listen=EVERYWHERE, insecure=True)):
            pass
    (warning,) = [line for line in logs if line["event"] == "insecure: exposed beyond loopback"]
    assert warning["log_level"] == "warning"
    assert len(warning["faults"]) == 3


async def test_with_tls_and_client_certificates_it_serves_everywhere(valkey_url: str, files: CertificateFiles) -> None:
    settings = quick_settings(
        valkey_url,
        listen=EVERYWHERE,
        http_listen=EVERYWHERE,
        mtls_listen=EVERYWHERE,
        http_tls=True,
        tls_cert=files.certificate,
        tls_key=files.key,
        client_ca=files.ca,
    )
    async with serving(settings) as server:
        assert len({server.port, server.http_port, server.mtls_port} - {0}) == 3


async def test_metrics_over_tls_follow_the_certificate(valkey_url: str, tmp_path: Path) -> None:
    maker = CertificateMaker()
    files = maker.server().write(tmp_path, "server")
    settings = quick_settings(valkey_url, http_tls=True, tls_cert=files.certificate, tls_key=files.key)
    async with serving(settings) as server:
        assert await peer_certificate(server.http_port, files.ca) == files.certificate.read_bytes()
        successor = maker.server()
        successor.write(tmp_path, "server")
        assert await peer_certificate(server.http_port, files.ca) == successor.certificate_pem


async def test_a_page_in_plain_text_beyond_loopback_is_refused(valkey_url: str) -> None:
    settings = BridgeSettings(listen=EVERYWHERE, valkey_url=valkey_url, token_key=TOKEN_KEY)
    with pytest.raises(ConfigurationError, match=r"in \[bridge\] is beyond loopback without TLS") as caught:
        async with serving_dashboards(settings):
            pytest.fail("it serves")
    assert caught.value.reason == "EXPOSED"
    with own_logs() as logs:
        async with running_server(valkey_url) as server:
            permitted = settings.model_copy(update={"insecure": True, "server": server.address})
            async with (
                serving_dashboards(permitted) as bridge,
                RunningBridge(bridge, permitted).dashboard() as dashboard,
            ):
                await dashboard.first("bridge:status", insecure=["plain_page", "server_unauthenticated"])
    assert "insecure: exposed beyond loopback" in [line["event"] for line in logs]


async def test_a_bridge_over_tls_follows_its_certificate(valkey_url: str, tmp_path: Path) -> None:
    maker = CertificateMaker()
    files = maker.server().write(tmp_path, "page")
    trusting = ssl.create_default_context(cafile=files.ca)
    async with running_server(valkey_url) as server:
        settings = bridge_settings(server, tls_cert=files.certificate, tls_key=files.key)
        async with serving_dashboards(settings) as bridge:
            assert bridge.url.startswith("https://")
            async with connect(f"wss://127.0.0.1:{bridge.port}/ws", ssl=trusting) as socket:
                assert await peer_certificate(bridge.port, files.ca) == files.certificate.read_bytes()
                successor = maker.server()
                successor.write(tmp_path, "page")
                assert await peer_certificate(bridge.port, files.ca) == successor.certificate_pem
                token = RunningBridge(bridge, settings).token()
                await socket.send(json.dumps({"type": "dashboard:connect", "version": "1.0.0", "token": token}))
                # What changes meanwhile may come first.
                while (answer := json.loads(await socket.recv()))["type"] != "connected":
                    assert answer["type"] == "bridge:status"
