"""TLS to Valkey: what does not match is named, and replaced certificates are used for new connections."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from valkey.asyncio import Valkey

from distributor.app.server_process import serving
from distributor.client import CommandClient, CommandRequest
from distributor.errors import ConfigurationError, Unavailable
from distributor.settings import load_server_settings
from distributor.store.valkey_check import check_server
from distributor.store.valkey_connection import ValkeyConnection, ValkeyFiles, with_files
from tests.support.certificates import CertificateMaker
from tests.support.limited_user import limited_to
from tests.support.running_server import quick_settings
from tests.support.tls_relay import tls_relay


async def refused(url: str) -> str:
    connection = ValkeyConnection(url)
    try:
        with pytest.raises(ConfigurationError) as caught:
            await check_server(connection)
    finally:
        await connection.close()
    assert url.partition("@")[0].rpartition(":")[2] not in str(caught.value)
    return str(caught.value)


async def test_a_server_uses_tls_and_a_limited_user(valkey_url: str, tmp_path: Path) -> None:
    maker = CertificateMaker()
    own = maker.service("distributor").write(tmp_path, "own")
    limited = await limited_to(valkey_url, "server")
    async with tls_relay(limited, tmp_path, maker, mutual=True) as relay:
        settings = quick_settings(relay.bare_url, valkey_ca=own.ca, valkey_cert=own.certificate, valkey_key=own.key)
        async with serving(settings) as server, CommandClient(f"127.0.0.1:{server.port}") as client:
            queued = await client.queue(CommandRequest("agent123", "PRINT"))
            assert (await client.get(queued.command_id)).command_id == queued.command_id
        assert set(relay.peers) == {ssl.PEM_cert_to_DER_cert(own.certificate.read_text())}


async def test_what_does_not_match_is_named(valkey_url: str, tmp_path: Path) -> None:
    maker = CertificateMaker()
    stranger = CertificateMaker("another CA").service("distributor").write(tmp_path, "stranger")
    async with tls_relay(valkey_url, tmp_path, maker) as relay:
        assert "set valkey_ca to the authority" in await refused(relay.bare_url)
        assert "set valkey_ca to the authority" in await refused(
            with_files(relay.bare_url, ValkeyFiles(authorities=stranger.ca))
        )
        by_name = relay.url.replace("127.0.0.1", "localhost")
        assert "valkey_url must name a host that its certificate is for" in await refused(by_name)
        assert "TLS" in await refused(relay.bare_url.replace("valkeys://", "valkey://"))
    async with tls_relay(valkey_url, tmp_path, maker, mutual=True) as relay:
        # Whether the alert or the end of the connection comes first, differs.
        assert "valkey_cert" in await refused(relay.url)
        wrong = with_files(relay.url, ValkeyFiles(None, stranger.certificate, stranger.key))
        assert "valkey_cert" in await refused(wrong)


async def test_a_replaced_client_certificate_is_used_for_new_connections(valkey_url: str, tmp_path: Path) -> None:
    maker = CertificateMaker()
    own = maker.service("distributor").write(tmp_path, "own")
    async with tls_relay(valkey_url, tmp_path, maker, mutual=True) as relay:
        connection = ValkeyConnection(with_files(relay.url, ValkeyFiles(None, own.certificate, own.key)))
        assert await connection.call("ECHO", "a") == b"a"
        successor = maker.service("distributor")
        successor.write(tmp_path, "own")
        assert await connection.call("ECHO", "b") == b"b"
        relay.drop()
        with pytest.raises(Unavailable):
            await connection.call("ECHO", "c")
        assert await connection.call("ECHO", "d") == b"d"
        await connection.close()
        assert len(relay.peers) == 2
        assert relay.peers[1] == ssl.PEM_cert_to_DER_cert(successor.certificate_pem.decode())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"valkey_ca": "ca.pem"}, "need a valkey_url that begins with valkeys://"),
        ({"valkey_cert": "a.pem", "valkey_url": "valkeys://host"}, "valkey_cert is set without valkey_key"),
    ],
)
def test_files_that_have_no_effect_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_server_settings(None, {}, **changes)


async def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    settings = quick_settings("valkeys://127.0.0.1:1", valkey_ca=tmp_path / "none.pem")
    with pytest.raises(ConfigurationError, match=r"none\.pem \(valkey_ca\): No such file"):
        await serving(settings).__aenter__()


async def test_wrong_credentials_and_missing_permissions_are_named(valkey_url: str) -> None:
    limited = await limited_to(valkey_url, "bridge")
    password = limited.partition(":")[2].partition(":")[2].partition("@")[0]
    text = await refused(limited.replace(password, "neither-of-them"))
    assert "check user and password in valkey_url" in text
    async with Valkey.from_url(valkey_url) as administrator:
        await administrator.execute_command("ACL", "SETUSER", "limited-bridge", "-info")
    text = await refused(limited)
    assert "distributor valkey-acl prints the permissions that its user needs" in text
