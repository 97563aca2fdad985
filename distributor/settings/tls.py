"""Settings of TLS: those of servers, and those of agents and callers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, Field, JsonValue, SecretStr, model_validator

from distributor.settings.values import OptionalAddress, SettingsGroup

_EMPTY: Final[dict[str, JsonValue]] = {"shown_default": "empty"}


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


FilePath = Annotated[Path, AfterValidator(_absolute)]


def file_setting(description: str) -> Any:
    """A setting that names a file, None by default."""
    return Field(None, description=description, json_schema_extra=_EMPTY)


class ServerTls(SettingsGroup):
    """TLS of a server's addresses."""

    tls_cert: FilePath | None = file_setting(
        "PEM file with the certificate chain of `listen` and `mtls_listen`; turns TLS on."
    )
    tls_key: FilePath | None = file_setting("PEM file with its private key, without a passphrase.")
    client_ca: FilePath | None = file_setting(
        "PEM file with the authorities of client certificates, which `mtls_listen` requires and `http_tls` accepts."
    )
    mtls_listen: OptionalAddress = Field(
        "",
        description="Address for agents and services with a client certificate (gRPC, mutual TLS), `host:port`.",
        json_schema_extra=_EMPTY,
    )
    http_tls: bool = Field(False, description="Serve `http_listen` over TLS, with `tls_cert`.")
    insecure: bool = Field(
        False,
        description="Permit plain text, and no authentication, beyond loopback. For tests only: anyone on the path can "
        "read and change everything.",
    )

    @model_validator(mode="after")
    def _complete_tls(self) -> Self:
        check_pair(self, "tls_cert", "tls_key")
        if self.mtls_listen and not (self.tls_cert and self.client_ca):
            raise ValueError("mtls_listen needs tls_cert, tls_key and client_ca")
        if self.http_tls and not self.tls_cert:
            raise ValueError("http_tls needs tls_cert and tls_key")
        return self


class CallerTls(SettingsGroup):
    """TLS and token of an agent or a caller."""

    tls: bool = Field(
        False,
        description="Use TLS on loopback too; it is always used beyond loopback, or with `tls_ca` or `tls_cert`.",
    )
    tls_ca: FilePath | None = file_setting(
        "PEM file with the authorities of the server's certificate; empty trusts those of the system."
    )
    tls_cert: FilePath | None = file_setting("PEM file with this client's certificate chain, for `mtls_listen`.")
    tls_key: FilePath | None = file_setting("PEM file with its private key, without a passphrase.")
    insecure: bool = Field(
        False, description="Permit plain text to servers beyond loopback. For tests only. Never sends a token that way."
    )
    token: SecretStr = Field(
        SecretStr(""),
        description="Token that is sent to the server. Prefer `token_file`, or the environment.",
        json_schema_extra=_EMPTY,
    )
    token_file: FilePath | None = file_setting("File that holds that token instead; read again when it changes.")

    @model_validator(mode="after")
    def _complete_credentials(self) -> Self:
        check_pair(self, "tls_cert", "tls_key")
        check_one_token(self, "token", "token_file")
        return self


def check_pair(settings: SettingsGroup, certificate: str, key: str) -> None:
    """Raise ValueError if only one of these settings is set."""
    for has, lacks in ((certificate, key), (key, certificate)):
        if getattr(settings, has) is not None and getattr(settings, lacks) is None:
            raise ValueError(f"{has} is set without {lacks}: set both, or neither")


def check_one_token(settings: SettingsGroup, token: str, file: str) -> None:
    """Raise ValueError if a token and a file with a token are both set."""
    if getattr(settings, token).get_secret_value() and getattr(settings, file) is not None:
        raise ValueError(f"{token} and {file} are both set; set only one")
