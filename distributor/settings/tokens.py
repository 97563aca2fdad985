"""Settings of tokens, shared by servers and bridges: the keys that verify them, and the claims that they must have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, JsonValue, SecretStr, model_validator

from distributor.errors import ConfigurationError
from distributor.settings.values import PathList, Seconds, SettingsGroup, is_loopback

_EMPTY: Final[dict[str, JsonValue]] = {"shown_default": "empty"}


def _long_enough(key: SecretStr) -> SecretStr:
    size = len(key.get_secret_value().encode())
    if 0 < size < 32:
        raise ValueError(f"must be at least 32 bytes, not {size}; generate one with openssl rand -hex 32")
    return key


def _check_jwks_url(url: str) -> str:
    if not url:
        return url
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise ValueError("must not contain a password")
    if not parts.hostname or parts.scheme not in ("https", "http"):
        raise ValueError("must be a URL such as https://login.example.org/keys")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("must be https, as keys over plain http can be replaced on the way")
    return url


class TokenSettings(SettingsGroup):
    """How tokens are verified. Any key turns authentication on."""

    token_key: Annotated[SecretStr, AfterValidator(_long_enough)] = Field(
        SecretStr(""),
        description="Key that signs and verifies tokens (HS256), at least 32 bytes. Prefer the environment to the "
        "settings file.",
        json_schema_extra=_EMPTY,
    )
    token_key_file: PathList = Field(
        (),
        description="Comma-separated files that hold such keys instead: the first signs, all verify. Surrounding "
        "whitespace is ignored; changes apply without a restart.",
        json_schema_extra=_EMPTY,
    )
    public_keys: PathList = Field(
        (),
        description="Comma-separated PEM files with public keys of token issuers: RSA (RS256), P-256 (ES256), "
        "Ed25519 (EdDSA). Changes apply without a restart.",
        json_schema_extra=_EMPTY,
    )
    jwks_url: Annotated[str, AfterValidator(_check_jwks_url)] = Field(
        "",
        description="URL of a token issuer's key set (JWKS), `https` or on loopback. The keys read last stay in use "
        "while it cannot be read.",
        json_schema_extra=_EMPTY,
    )
    jwks_interval: Seconds = Field(300.0, description="Seconds between reads of `jwks_url`.")
    token_issuer: str = Field("command-distributor", min_length=1, description="Required `iss` claim of tokens.")
    token_audience: str = Field("command-distributor", min_length=1, description="Required `aud` claim of tokens.")
    token_leeway: Seconds = Field(
        5.0, le=300.0, description="Seconds of clock skew allowed between a token's issuer and the verifier."
    )

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.token_key.get_secret_value() and self.token_key_file:
            raise ValueError("token_key and token_key_file are both set; set only one")
        return self

    @property
    def verifies_tokens(self) -> bool:
        """Whether any key is set, so that tokens can be verified."""
        return bool(self.token_key.get_secret_value() or self.token_key_file or self.public_keys or self.jwks_url)

    def shared_keys(self) -> list[str]:
        """Return the shared keys, that which signs first. Raises ConfigurationError if a file cannot be read."""
        if not self.token_key_file:
            return [key] if (key := self.token_key.get_secret_value()) else []
        return [_key_in(path) for path in self.token_key_file]

    def public_pems(self) -> list[tuple[str, bytes]]:
        """Return the paths and contents of `public_keys`. Raises ConfigurationError."""
        return [(str(path), _read(path, "public_keys")) for path in self.public_keys]


def _key_in(path: Path) -> str:
    key = _read(path, "token_key_file").decode(errors="surrogateescape").strip()
    if not key:
        raise ConfigurationError(f"{path} (token_key_file) is empty", field="token_key_file")
    return key


def _read(path: Path, field: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path} ({field}): {error.strerror}", field=field) from error
