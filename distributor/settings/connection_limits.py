"""Settings that limit what a connection may cost before and while it is served."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from distributor.settings.values import Seconds, SettingsGroup

MIN_METADATA_BYTES: Final = 15_360
"""Room for two tokens of the largest size, that of a delegate and that of its user, and 1 KiB of names and the rest."""
MIN_MESSAGE_BYTES: Final = 6_815_744
"""Room for what clients combine without knowing this setting: 6 MiB of commands, and the rest of the message."""


class HttpLimitSettings(SettingsGroup):
    """Limits of HTTP requests, to `/metrics` of a server and to a bridge."""

    http_request_timeout: Seconds = Field(
        10.0, description="Seconds an HTTP request may take to arrive, from its first byte or the answer before."
    )
    max_http_body_bytes: int = Field(
        65_536,
        ge=32_768,
        le=16_777_216,
        description="Maximum size of the body of an HTTP request, in bytes with its framing.",
    )


class GrpcLimitSettings(SettingsGroup):
    """Limits of gRPC connections and their calls. Applied before the caller is known."""

    handshake_timeout: float = Field(
        10.0,
        gt=0,
        le=120.0,
        allow_inf_nan=False,
        description="Seconds a peer has for the handshakes of TLS and HTTP/2 on a gRPC connection.",
    )
    idle_connection_timeout: Seconds = Field(
        600.0,
        description="Seconds after which a gRPC connection without any call is closed. Clients connect again by "
        "themselves.",
    )
    max_metadata_bytes: int = Field(
        16_384,
        ge=MIN_METADATA_BYTES,
        le=65_536,
        description="Maximum size of the metadata of a call, names and values, in bytes. Two tokens fit at least.",
    )
    max_message_bytes: int = Field(
        8_388_608,
        ge=MIN_MESSAGE_BYTES,
        le=67_108_864,
        description="Maximum size of a gRPC message to the server, in bytes, also when decompressed. Clients in Python "
        "send no more than 8 MiB.",
    )
