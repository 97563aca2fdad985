"""Settings of a bridge's TLS: towards dashboards, and towards its server."""

from __future__ import annotations

from typing import Final, Self

from pydantic import Field, JsonValue, SecretStr, model_validator

from distributor.settings.tls import FilePath, check_one_token, check_pair, file_setting
from distributor.settings.values import SettingsGroup

_EMPTY: Final[dict[str, JsonValue]] = {"shown_default": "empty"}


class BridgeTls(SettingsGroup):
    """`tls_...` are for dashboards, `server_...` for the connection to the server."""

    tls_cert: FilePath | None = file_setting("PEM file with the certificate chain of `listen`; turns TLS on.")
    tls_key: FilePath | None = file_setting("PEM file with its private key, without a passphrase.")
    insecure: bool = Field(
        False,
        description="Permit plain text beyond loopback, for `listen` and to the server. The page shows a warning.",
    )
    server_tls: bool = Field(
        False,
        description="Use TLS to a server on loopback too; it is always used beyond loopback, or with `server_ca` or "
        "`server_cert`.",
    )
    server_ca: FilePath | None = file_setting(
        "PEM file with the authorities of the server's certificate; empty trusts those of the system."
    )
    server_cert: FilePath | None = file_setting(
        "PEM file with the bridge's client certificate chain, for the server's `mtls_listen`."
    )
    server_key: FilePath | None = file_setting("PEM file with its private key, without a passphrase.")
    server_token: SecretStr = Field(
        SecretStr(""),
        description="The bridge's own token for the server. Prefer `server_token_file`, or the environment.",
        json_schema_extra=_EMPTY,
    )
    server_token_file: FilePath | None = file_setting("File that holds that token instead; read again when it changes.")

    @model_validator(mode="after")
    def _complete_tls(self) -> Self:
        check_pair(self, "tls_cert", "tls_key")
        check_pair(self, "server_cert", "server_key")
        check_one_token(self, "server_token", "server_token_file")
        return self
