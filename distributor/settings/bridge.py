"""Settings of a bridge process."""

from __future__ import annotations

from typing import ClassVar, Final

from pydantic import Field, JsonValue
from pydantic_settings import SettingsConfigDict

from distributor.settings.bridge_limits import BridgeLimitSettings
from distributor.settings.bridge_tls import BridgeTls
from distributor.settings.connection_limits import HttpLimitSettings
from distributor.settings.tokens import TokenSettings
from distributor.settings.valkey_tls import ValkeyTls
from distributor.settings.values import (
    Address,
    LogFormat,
    LogLevel,
    OriginList,
    Seconds,
    Servers,
    ValkeyUrl,
)

_EMPTY: Final[dict[str, JsonValue]] = {"shown_default": "empty"}


class BridgeSettings(BridgeTls, TokenSettings, ValkeyTls, HttpLimitSettings, BridgeLimitSettings):
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
        "",
        description="Valkey of that server, such as `valkey://127.0.0.1:6379/0`, or its Sentinels, as a server names "
        "them.",
        json_schema_extra=_EMPTY,
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
