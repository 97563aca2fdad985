"""Credentials of agents, callers and bridges: what their settings make of them, and when TLS is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from distributor.cli.command_agent import build_agent
from distributor.errors import ConfigurationError
from distributor.settings import AgentSettings, BridgeSettings, ClientSettings, load_client_settings
from distributor.wire.credentials import ClientCredentials, Connector

CA, CERTIFICATE, KEY, TOKEN = (Path(f"/pem/{name}") for name in ("ca", "certificate", "key", "token"))


@pytest.mark.parametrize("group", [AgentSettings, ClientSettings])
def test_credentials_come_from_settings(group: type[AgentSettings] | type[ClientSettings]) -> None:
    settings = group(tls=True, tls_ca=CA, tls_cert=CERTIFICATE, tls_key=KEY, insecure=True, token_file=TOKEN)
    expected = ClientCredentials(CA, CERTIFICATE, KEY, tls=True, insecure=True, token_file=TOKEN)
    assert ClientCredentials.of(settings) == expected
    assert ClientCredentials.of(group(token="secret")) == ClientCredentials(token="secret")
    assert "secret" not in repr(group(token="secret"))
    if isinstance(settings, AgentSettings):
        assert build_agent(settings).credentials == expected


def test_credentials_of_a_bridge_come_from_its_settings() -> None:
    settings = BridgeSettings(
        server_tls=True,
        server_ca=CA,
        server_cert=CERTIFICATE,
        server_key=KEY,
        insecure=True,
        server_token_file=TOKEN,
    )
    expected = ClientCredentials(CA, CERTIFICATE, KEY, tls=True, insecure=True, token_file=TOKEN)
    assert ClientCredentials.of_bridge(settings) == expected
    by_value = BridgeSettings(server_token="secret")
    assert ClientCredentials.of_bridge(by_value) == ClientCredentials(token="secret")


@pytest.mark.parametrize("one", ["tls_cert", "tls_key"])
def test_a_certificate_needs_its_key(one: str) -> None:
    given: dict[str, Any] = {one: CERTIFICATE}
    with pytest.raises(ConfigurationError, match="set both, or neither"):
        load_client_settings(None, {}, **given)


def test_a_token_is_given_once() -> None:
    with pytest.raises(ValidationError, match="token and token_file are both set"):
        ClientSettings(token="secret", token_file=TOKEN)


@pytest.mark.parametrize(
    ("target", "credentials", "tls"),
    [
        ("server.example:50051", ClientCredentials(), True),
        ("server.example:50051", ClientCredentials(insecure=True), False),
        ("server.example:50051", ClientCredentials(insecure=True, ca=CA), True),
        ("127.0.0.1:50051,localhost:50052,[::1]:1", ClientCredentials(), False),
        ("127.0.0.1:50051,server.example:50051", ClientCredentials(), True),
        ("127.0.0.1:50051", ClientCredentials(tls=True), True),
        ("unix:/run/server.sock", ClientCredentials(), False),
    ],
)
def test_tls_is_used_beyond_loopback(target: str, credentials: ClientCredentials, tls: bool) -> None:
    assert Connector(credentials).uses_tls(target) is tls


async def test_a_token_never_travels_in_plain_text() -> None:
    careless = Connector(ClientCredentials(insecure=True, token="a secret"))
    with pytest.raises(ConfigurationError, match=r"must not be sent to server\.example:50051 in plain text") as caught:
        careless.channel("server.example:50051")
    assert "a secret" not in str(caught.value)
    await careless.channel("127.0.0.1:50051").close()


def test_a_token_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "token"
    connector = Connector(ClientCredentials(token_file=file))
    with pytest.raises(ConfigurationError, match=r"token \(token_file\): No such file"):
        connector.authorization()
    file.write_text("\n")
    with pytest.raises(ConfigurationError, match=r"\(token_file\) is empty"):
        connector.authorization()
    file.write_text("one\n")
    assert connector.authorization() == (("authorization", "Bearer one"),)
    file.write_text("two")
    assert connector.authorization() == (("authorization", "Bearer two"),)
    file.unlink()
    assert connector.authorization() == (("authorization", "Bearer two"),)
