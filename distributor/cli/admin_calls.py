"""Calls of an administrator: with the credentials given, or a token minted on the server's own machine."""

from __future__ import annotations

import getpass
from dataclasses import replace
from pathlib import Path
from typing import Final

from distributor.cli.token import TokenRequest, token_for
from distributor.client import ClientCredentials, ClientOptions
from distributor.errors import DistributorError
from distributor.identity.roles import Role
from distributor.settings import load_client_settings, load_server_settings

LOCAL_LIFETIME: Final = "5m"


def admin_options(config: Path | None, server: str | None) -> tuple[str, ClientOptions]:
    """The server to call, and how.

    Without a token or certificate, a token of five minutes is minted for `local:<user>` if the settings of a server
    with a `token_key` can be read here. Raises ConfigurationError.
    """
    settings = load_client_settings(config, server=server)
    credentials = ClientCredentials.of(settings)
    if not (credentials.token or credentials.token_file or credentials.certificate):
        credentials = replace(credentials, token=_local_token(config))
    return settings.server, ClientOptions(credentials=credentials)


def _local_token(config: Path | None) -> str:
    """A token signed with the key of the server on this machine; empty if there is none that can be read."""
    try:
        settings = load_server_settings(config)
        if not (settings.token_key_file or settings.token_key.get_secret_value()):
            return ""
        wanted = TokenRequest(f"local:{getpass.getuser()}", LOCAL_LIFETIME, roles=(Role.ADMIN,))
        return token_for(settings, wanted)
    except (DistributorError, OSError):
        return ""
