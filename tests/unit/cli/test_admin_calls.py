from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import pytest

from distributor.cli.admin_calls import admin_client
from distributor.client import ClientOptions
from distributor.errors import Unauthenticated
from distributor.identity.unverified_claims import unverified_claims
from distributor.settings.contexts import Context, store_context


class OpenedClient:
    """Remembers how it was made."""

    def __init__(self, target: str, options: ClientOptions) -> None:
        self.target = target
        self.token = options.credentials.token
        self.calls = options.calls

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: Any) -> None:
        pass


async def test_the_key_of_a_server_comes_before_the_current_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_context(Context("prod", "prod:1", token="prod-token"), use=True)
    async with admin_client(OpenedClient, None, None) as client:
        assert (client.target, client.token) == ("prod:1", "prod-token")
    config = tmp_path / "settings.toml"
    config.write_text(f'[server]\ntoken_key = "{"k" * 32}"\n')
    monkeypatch.setenv("LOGNAME", "root")
    async with admin_client(OpenedClient, config, None) as client:
        claims = unverified_claims(client.token)
        assert client.target == "127.0.0.1:50051"
        assert claims is not None
        assert claims.subject == "local:root"


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:50999", "127.0.0.1:50999"),
        ("0.0.0.0:50999", "127.0.0.1:50999"),
        ("[::]:50999", "[::1]:50999"),
        ("control.example.org:50999", "control.example.org:50999"),
    ],
)
async def test_the_server_of_this_machine_is_called_where_it_listens(listen: str, address: str, tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text(f'[server]\nlisten = "{listen}"\ntoken_key = "{"k" * 32}"\n')
    async with admin_client(OpenedClient, config, None) as client:
        assert client.target == address
        assert client.token
    config.write_text(config.read_text() + '[client]\nserver = "named:1"\n')
    async with admin_client(OpenedClient, config, None) as client:
        assert client.target == "named:1"


async def test_what_the_key_of_this_machine_signs_stays_on_it(tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text(f'[server]\ntoken_key = "{"k" * 32}"\n')
    store_context(Context("prod", "prod:1", token="prod-token"), use=True)
    for server, minted in (("192.0.2.7:1", False), ("127.0.0.1:1,192.0.2.7:1", False), ("localhost:1", True)):
        async with admin_client(OpenedClient, config, server) as client:
            assert (client.target, bool(client.token)) == (server, minted)
    with pytest.raises(Unauthenticated) as caught:
        async with admin_client(OpenedClient, config, "192.0.2.7:1"):
            raise Unauthenticated("credentials are required", reason="CREDENTIALS_REQUIRED")
    assert str(caught.value) == (
        "credentials are required; tokens signed with this machine's key are not sent to 192.0.2.7:1, another machine; "
        "log in with: command-sender login --server 192.0.2.7:1"
    )


async def test_a_server_of_this_machine_may_just_be_starting(tmp_path: Path) -> None:
    """`distributor serve &` and the next line of a shell."""
    config = tmp_path / "settings.toml"
    config.write_text(f'[server]\ntoken_key = "{"k" * 32}"\n')
    async with admin_client(OpenedClient, config, None) as client:
        assert sum(client.calls.bound_ms(attempt) / 2 for attempt in range(1, client.calls.attempts)) >= 4_000
    async with admin_client(OpenedClient, config, "other:1") as client:
        assert client.calls == ClientOptions().calls
