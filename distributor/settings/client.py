"""Settings of callers: the command line, and programs that use the Python client."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from distributor.settings.values import Address, SettingsGroup


class ClientSettings(SettingsGroup):
    """The choices of a caller."""

    table: ClassVar[str] = "client"
    model_config = SettingsConfigDict(env_prefix="DISTRIBUTOR_")

    server: Address = Field("127.0.0.1:50051", description="The server to call, `host:port`.")
