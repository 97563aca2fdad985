"""Settings of a bridge process."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Final, Self

from pydantic import AfterValidator, Field, JsonValue, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from distributor.errors import ConfigurationError
from distributor.settings.bridge_tls import BridgeTls
from distributor.settings.values import (
    Address,
    LogFormat,
    LogLevel,
    OriginList,
    PathList,
    Seconds,
    Servers,
    ValkeyUrl,
)

_EMPTY: Final[dict[str, JsonValue]] = {"shown_default": "empty"}


def _long_enough(key: SecretStr) -> SecretStr:
    size = len(key.get_secret_value().encode())
    if 0 < size < 32:
        raise ValueError(f"must be at least 32 bytes, not {size}; generate one with openssl rand -hex 32")
    return key


class BridgeSettings(BridgeTls):
    """Settings chosen by the operator of a bridge."""

    table: ClassVar[str] = "bridge"
    model_config = SettingsConfigDict(env_prefix="DISTRIBUTOR_BRIDGE_")

    listen: Address = Field(
        "127.0.0.1:8080", description="Address for dashboards (the page, `/ws`, `/api`) and `/metrics`, `host:port`."
    )
    server: Servers = Field(
        "127.0.0.1:50051",
        description="Server that receives all changes, `host:port`; or several on its Valkey, separated by commas.",
    )
    valkey_url: ValkeyUrl = Field(
        "", description="Valkey of that server, such as `valkey://127.0.0.1:6379/0`.", json_schema_extra=_EMPTY
    )
    token_key: Annotated[SecretStr, AfterValidator(_long_enough)] = Field(
        SecretStr(""),
        description="Key that signs tokens (HS256), at least 32 bytes. Prefer the environment to the settings file.",
        json_schema_extra=_EMPTY,
    )
    token_key_file: Path | None = Field(
        None,
        description="File that holds that key instead; surrounding whitespace is ignored.",
        json_schema_extra=_EMPTY,
    )
    public_keys: PathList = Field(
        (),
        description="Comma-separated PEM files with public keys of token issuers: RSA (RS256), P-256 (ES256), "
        "Ed25519 (EdDSA).",
        json_schema_extra=_EMPTY,
    )
    token_audience: str = Field("command-distributor", min_length=1, description="Required `aud` claim of tokens.")
    token_leeway: Seconds = Field(
        5.0, description="Seconds of clock skew allowed between a token's issuer and the bridge."
    )
    allowed_origins: OriginList = Field(
        (),
        description="Comma-separated origins of other pages that may connect, such as `https://ops.example.org`; "
        "`*` for any.",
        json_schema_extra=_EMPTY,
    )
    max_connections: int = Field(500, ge=1, le=100_000, description="Maximum number of connected dashboards.")
    max_connect_bytes: int = Field(
        131_072,
        ge=1_024,
        le=1_048_576,
        description="Maximum size of the first message, in bytes: all that is read before authentication.",
    )
    max_message_bytes: int = Field(
        1_048_576, ge=16_384, le=16_777_216, description="Maximum size of a message from a dashboard, in bytes."
    )
    connect_timeout: Seconds = Field(5.0, description="Seconds a connection has to send `dashboard:connect`.")
    ping_interval: Seconds = Field(
        20.0, description="Seconds between WebSocket pings, and before an unanswered ping ends the connection."
    )
    close_timeout: Seconds = Field(
        5.0, description="Seconds a dashboard has to answer a close before the connection is dropped."
    )
    queue_messages: int = Field(
        256, ge=16, le=65_536, description="Maximum number of messages queued for one dashboard."
    )
    queue_bytes: int = Field(
        1_048_576, ge=1_048_576, le=268_435_456, description="Maximum number of bytes queued for one dashboard."
    )
    slow_close: Seconds = Field(
        10.0, description="Seconds a dashboard has to empty half of a full queue before it is disconnected."
    )
    offline_after: Seconds = Field(
        30.0, description="Seconds of silence after which an agent is offline; same value as the server's."
    )
    server_check_interval: Seconds = Field(
        2.0, description="Seconds between health checks of the server, for `bridge:status` and `/readyz`."
    )
    agent_sweep: Seconds = Field(
        5.0,
        description="Seconds between checks of all watched agents: how soon a silent one is shown as offline, and how "
        "often `agents:seen` is sent.",
    )
    loop_stall_threshold: Seconds = Field(
        0.1, description="Seconds of a blocked event loop before its stack is logged."
    )
    log_format: LogFormat = Field("console", description="Format of log lines.")
    log_level: LogLevel = Field("info", description="Minimum level of log lines.")

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.token_key.get_secret_value() and self.token_key_file is not None:
            raise ValueError("token_key and token_key_file are both set; set only one")
        return self

    def signing_key(self) -> str:
        """Return the key from token_key or token_key_file, "" if neither is set. Raises ConfigurationError."""
        if self.token_key_file is None:
            return self.token_key.get_secret_value()
        key = _read(self.token_key_file, "token_key_file").decode(errors="surrogateescape").strip()
        if not key:
            raise ConfigurationError(f"{self.token_key_file} (token_key_file) is empty", field="token_key_file")
        return key

    def public_pems(self) -> dict[str, bytes]:
        """Return the contents of `public_keys` by path. Raises ConfigurationError."""
        return {str(path): _read(path, "public_keys") for path in self.public_keys}


def _read(path: Path, field: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path} ({field}): {error.strerror}", field=field) from error
