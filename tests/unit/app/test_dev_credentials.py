"""The credentials that `dev` makes for itself."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from distributor.app.authentication import Authentication
from distributor.app.dev_credentials import DEV_FOLDER, dev_credentials
from distributor.errors import ConfigurationError
from distributor.identity.caller import Caller, CallerKind
from distributor.identity.roles import Role
from distributor.identity.tokens import Revoked
from distributor.settings import BridgeSettings, ServerSettings

KEY = SecretStr("k" * 32)


async def caller(settings: ServerSettings, token: str) -> Caller | None:
    """Who a server with these settings takes the holder of a token for."""
    authenticator = Authentication(
        settings, Revoked(lambda _: False, lambda _, __: False), lambda _: None
    ).authenticator
    assert authenticator is not None
    return await authenticator.caller((("authorization", f"Bearer {token.strip()}"),), dict, "127.0.0.1")


async def test_agent_user_and_bridge_are_known_to_the_server(tmp_path: Path) -> None:
    made = dev_credentials(ServerSettings(data_dir=tmp_path), BridgeSettings(), "dev-agent")
    agent = await caller(made.server, made.agent_token.read_text())
    assert agent is not None
    assert (agent.kind, agent.subject, agent.roles) == (CallerKind.AGENT, "dev-agent", frozenset())
    user = await caller(made.server, made.user_token.read_text())
    assert user is not None
    assert user.kind is CallerKind.USER
    assert Role.ADMIN in user.roles
    assert user.expires is not None
    assert user.expires > time.time() + 80 * 86_400
    bridge = await caller(made.server, made.bridge.server_token.get_secret_value())
    assert bridge is not None
    assert bridge.kind is CallerKind.SERVICE
    assert bridge.roles == {Role.DELEGATE}
    assert made.bridge.shared_keys() == made.server.shared_keys()


async def test_tokens_of_an_earlier_start_still_count(tmp_path: Path) -> None:
    settings = ServerSettings(data_dir=tmp_path)
    earlier = dev_credentials(settings, BridgeSettings(), "dev-agent").user_token.read_text()
    again = dev_credentials(settings, BridgeSettings(), "dev-agent")
    assert await caller(again.server, earlier) is not None
    assert again.user_token.read_text() != earlier


def test_only_their_owner_can_read_them(tmp_path: Path) -> None:
    dev_credentials(ServerSettings(data_dir=tmp_path), BridgeSettings(), "dev-agent")
    folder = tmp_path / DEV_FOLDER
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == dict.fromkeys(("token.key", "audit.keys", "agent.token", "user.token"), 0o600)


async def test_a_key_of_the_settings_signs(tmp_path: Path) -> None:
    made = dev_credentials(ServerSettings(data_dir=tmp_path, token_key=KEY), BridgeSettings(), "dev-agent")
    assert made.server.shared_keys() == ["k" * 32]
    assert not (tmp_path / DEV_FOLDER / "token.key").exists()
    assert await caller(made.server, made.user_token.read_text()) is not None


def test_settings_that_verify_but_cannot_sign_are_an_error(tmp_path: Path) -> None:
    settings = ServerSettings(data_dir=tmp_path, jwks_url="https://issuer.example.org/keys")
    with pytest.raises(ConfigurationError, match="set token_key or token_key_file too"):
        dev_credentials(settings, BridgeSettings(), "dev-agent")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / DEV_FOLDER).write_text("in the way")
    with pytest.raises(ConfigurationError, match=f"cannot write {tmp_path / DEV_FOLDER}: File exists"):
        dev_credentials(ServerSettings(data_dir=tmp_path), BridgeSettings(), "dev-agent")
