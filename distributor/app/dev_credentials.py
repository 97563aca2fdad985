"""The credentials of `dev` and `demo`: made at the first start, kept in the data folder, good on this machine only."""

from __future__ import annotations

import getpass
import secrets
import time
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import SecretStr

from distributor.app.audit_key_file import add_key
from distributor.errors import ConfigurationError
from distributor.identity.caller import CallerKind
from distributor.identity.roles import Role
from distributor.identity.token_keys import key_ring
from distributor.identity.tokens import NewToken, TokenRules, mint
from distributor.private_file import PrivateFile, make_private_folder
from distributor.settings import BridgeSettings, ServerSettings

DEV_FOLDER: Final = "dev-credentials"
DEV_KEY: Final = "token.key"
LIFETIME_SECONDS: Final = 90 * 86_400
BRIDGE: Final = "dev-bridge"
_FIELD: Final = "data_dir"


class DevCredentials(NamedTuple):
    """Settings that authenticate callers, and the files with the tokens of the agent and of the user."""

    server: ServerSettings
    bridge: BridgeSettings
    agent_token: Path
    user: str
    user_token: Path


def dev_credentials(settings: ServerSettings, bridge: BridgeSettings, agent_id: str) -> DevCredentials:
    """Make what is missing of the credentials, and settings that use them.

    The key is kept, so tokens of an earlier start go on to count; tokens are made anew at each start, for 90 days.
    Raises ConfigurationError if the folder cannot be written, or if the settings verify tokens without a key that signs
    them.
    """
    folder = settings.data_dir / DEV_FOLDER
    make_private_folder(folder, field=_FIELD)
    settings = _with_keys(settings, folder)
    user = getpass.getuser()
    user_token, agent_token = folder / "user.token", folder / "agent.token"
    _file(user_token).replace(_line(_token(settings, CallerKind.USER, user, Role.ADMIN)))
    _file(agent_token).replace(_line(_token(settings, CallerKind.AGENT, agent_id)))
    own = {
        "token_key": settings.token_key,
        "token_key_file": settings.token_key_file,
        "token_issuer": settings.token_issuer,
        "token_audience": settings.token_audience,
        "server_token": SecretStr(_token(settings, CallerKind.SERVICE, BRIDGE, Role.DELEGATE)),
    }
    return DevCredentials(settings, bridge.model_copy(update=own), agent_token, user, user_token)


def _with_keys(settings: ServerSettings, folder: Path) -> ServerSettings:
    own: dict[str, object] = {}
    if not settings.verifies_tokens:
        key = folder / DEV_KEY
        if not key.exists():
            _file(key).create(_line(secrets.token_urlsafe(48)))
        own["token_key_file"] = (key,)
    if settings.audit_key_file is None:
        own["audit_key_file"] = audit_key = folder / "audit.keys"
        if not audit_key.exists():
            add_key(audit_key, "k1")
    return settings.model_copy(update=own)


def _token(settings: ServerSettings, kind: CallerKind, subject: str, *roles: Role) -> str:
    signing = key_ring(settings.shared_keys(), ()).signing
    if signing is None:
        raise ConfigurationError(
            "dev and demo make tokens of their own: set token_key or token_key_file too, or no key at all",
            field="token_key",
        )
    now = int(time.time())
    new = NewToken(kind, subject, now, now + LIFETIME_SECONDS, roles)
    return mint(signing, TokenRules(settings.token_issuer, settings.token_audience), new)


def _file(path: Path) -> PrivateFile:
    return PrivateFile(path, field=_FIELD)


def _line(text: str) -> bytes:
    return f"{text}\n".encode()
