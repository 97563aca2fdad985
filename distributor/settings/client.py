"""Settings of callers: the command line and users of the Python client."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from distributor.settings.tls import CallerTls
from distributor.settings.values import CompressionMethod, Servers, ThresholdBytes


class ClientSettings(CallerTls):
    """Settings chosen by a caller."""

    table: ClassVar[str] = "client"
    model_config = SettingsConfigDict(env_prefix="DISTRIBUTOR_")

    server: Servers = Field(
        "127.0.0.1:50051",
        description="Server to call, `host:port`; or several that share a Valkey, separated by commas.",
    )
    compression: CompressionMethod = Field(
        "gzip",
        description="Compress messages with params, results or output: `gzip` if the server accepts it, or `off`.",
    )
    compression_threshold: ThresholdBytes = Field(
        1_024, description="Minimum average size of the commands or results in a compressed message, in bytes."
    )
