"""Settings of one agent process."""

from __future__ import annotations

import re
import socket
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field
from pydantic_settings import SettingsConfigDict

from distributor.model.command import AGENT_ID_PATTERN
from distributor.settings.values import Address, Grace, Labels, LogFormat, LogLevel, NameList, SettingsGroup


def hostname_as_agent_id() -> str:
    """The name of this host, with a hyphen for characters that agent ids must not contain."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname())[:128] or "agent"


def _check_agent_id(agent_id: str) -> str:
    if not AGENT_ID_PATTERN.fullmatch(agent_id):
        raise ValueError("must be 1 to 128 of A-Z a-z 0-9 . _ -")
    return agent_id


class AgentSettings(SettingsGroup):
    """The choices of whoever operates the agent's host."""

    table: ClassVar[str] = "agent"
    model_config = SettingsConfigDict(env_prefix="DISTRIBUTOR_AGENT_")

    server: Address = Field("127.0.0.1:50051", description="The server to attach to, `host:port`.")
    agent_id: Annotated[str, AfterValidator(_check_agent_id)] = Field(
        default_factory=hostname_as_agent_id,
        description="Name of this agent: 1 to 128 of `A-Z a-z 0-9 . _ -`.",
        json_schema_extra={"shown_default": "the host's name"},
    )
    capacity: int = Field(1, ge=1, le=1_000, description="How many commands run at once.")
    allow_exec: bool = Field(False, description="Whether `EXEC` may start programs on this host.")
    allowed_programs: NameList = Field(
        (),
        description="The only programs that `EXEC` may start, separated by commas; empty allows all of them.",
        json_schema_extra={"shown_default": "empty"},
    )
    labels: Labels = Field(
        default_factory=dict,
        description="Labels of this agent: a table, or `name=value` pairs separated by commas.",
        json_schema_extra={"shown_default": "empty"},
    )
    stop_grace: Grace = Field(5.0, description="Seconds between TERM and KILL when a command is stopped.")
    log_format: LogFormat = Field("console", description="How log lines look.")
    log_level: LogLevel = Field("info", description="The lowest level of log lines to write.")
