"""Settings of one bridge process."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Final, Self

from pydantic import AfterValidator, Field, JsonValue, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from distributor.errors import ConfigurationError
from distributor.settings.values import (
    Address,
    LogFormat,
    LogLevel,
    OriginList,
    PathList,
    Seconds,
    SettingsGroup,
    ValkeyUrl,
)

_EMPTY: Final[dict[str, JsonValue]] = {"shown_default": "empty"}


def _long_enough(key: SecretStr) -> SecretStr:
    size = len(key.get_secret_value().encode())
    if 0 < size < 32:
        raise ValueError(f"must be at least 32 bytes, not {size}; openssl rand -hex 32 makes one")
    return key


class BridgeSettings(SettingsGroup):
    """What the operator of a bridge decides."""

    table: ClassVar[str] = "bridge"
    model_config = SettingsConfigDict(env_prefix="DISTRIBUTOR_BRIDGE_")

    listen: Address = Field(
        "127.0.0.1:8080", description="Where dashboards connect: `/ws`, `/api`, the page and `/metrics`, `host:port`."
    )
    server: Address = Field("127.0.0.1:50051", description="The server to call for every change, `host:port`.")
    valkey_url: ValkeyUrl = Field(
        "", description="The Valkey of that server, such as `valkey://127.0.0.1:6379/0`.", json_schema_extra=_EMPTY
    )
    token_key: Annotated[SecretStr, AfterValidator(_long_enough)] = Field(
        SecretStr(""),
        description="Key that signs tokens (HS256), at least 32 bytes. Better in the environment than in a file.",
        json_schema_extra=_EMPTY,
    )
    token_key_file: Path | None = Field(
        None, description="File with that key instead; space around it is ignored.", json_schema_extra=_EMPTY
    )
    public_keys: PathList = Field(
        (),
        description="PEM files with public keys of those who sign tokens, separated by commas: RSA (RS256), P-256 "
        "(ES256), Ed25519 (EdDSA).",
        json_schema_extra=_EMPTY,
    )
    token_audience: str = Field("command-distributor", min_length=1, description="The `aud` that tokens must have.")
    token_leeway: Seconds = Field(
        5.0, description="Seconds that the clocks of a token's issuer and of the bridge may be apart."
    )
    allowed_origins: OriginList = Field(
        (),
        description="Origins of pages that may connect besides our own, such as `https://ops.example.org`, "
        "separated by commas; `*` for any.",
        json_schema_extra=_EMPTY,
    )
    max_connections: int = Field(500, ge=1, le=100_000, description="The most dashboards connected at once.")
    max_connect_bytes: int = Field(
        131_072,
        ge=1_024,
        le=1_048_576,
        description="The largest first message in bytes: all that is read of somebody unknown.",
    )
    max_message_bytes: int = Field(
        1_048_576, ge=16_384, le=16_777_216, description="The largest message that a dashboard may send, in bytes."
    )
    connect_timeout: Seconds = Field(5.0, description="Seconds a connection has for its `dashboard:connect`.")
    ping_interval: Seconds = Field(
        20.0, description="Seconds between WebSocket pings, and until one that is not answered ends the connection."
    )
    close_timeout: Seconds = Field(
        5.0, description="Seconds that a dashboard has to answer when its connection is closed, before it is cut."
    )
    queue_messages: int = Field(256, ge=16, le=65_536, description="The most messages that wait for one dashboard.")
    queue_bytes: int = Field(
        1_048_576, ge=1_048_576, le=268_435_456, description="The most bytes that wait for one dashboard."
    )
    slow_close: Seconds = Field(
        10.0, description="Seconds for which a queue may be full, until it is half empty, before the connection ends."
    )
    offline_after: Seconds = Field(
        30.0, description="Seconds of silence after which an agent counts as gone; as the server has it."
    )
    server_check_interval: Seconds = Field(
        2.0, description="Seconds between two checks whether the server answers, for `bridge:status` and `/readyz`."
    )
    agent_sweep: Seconds = Field(
        5.0,
        description="Seconds between two looks at all agents that dashboards watch: how soon one that fell silent is "
        "shown as offline, and how often `agents:seen` is sent.",
    )
    loop_stall_threshold: Seconds = Field(
        0.1, description="Seconds for which the event loop may be blocked before a line says what blocks it."
    )
    log_format: LogFormat = Field("console", description="How log lines look.")
    log_level: LogLevel = Field("info", description="The least important log lines to write.")

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.token_key.get_secret_value() and self.token_key_file is not None:
            raise ValueError("token_key and token_key_file are both set; one of them must be empty")
        return self

    def signing_key(self) -> str:
        """The key of token_key or token_key_file; empty where neither is set. Raises ConfigurationError."""
        if self.token_key_file is None:
            return self.token_key.get_secret_value()
        key = _read(self.token_key_file, "token_key_file").decode(errors="surrogateescape").strip()
        if not key:
            raise ConfigurationError(f"{self.token_key_file} (token_key_file) is empty", field="token_key_file")
        return key

    def public_pems(self) -> dict[str, bytes]:
        """The contents of `public_keys` by path. Raises ConfigurationError."""
        return {str(path): _read(path, "public_keys") for path in self.public_keys}


def _read(path: Path, field: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path} ({field}): {error.strerror}", field=field) from error
