"""Settings of an agent process."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, Field
from pydantic_settings import SettingsConfigDict

from distributor.environment import default_journal, enrolled_agents
from distributor.model.command import AGENT_ID_PATTERN, MAX_DURATION_MS
from distributor.settings.policy import PolicySettings
from distributor.settings.tls import CallerTls
from distributor.settings.trusted_signers import TrustedSignerSettings
from distributor.settings.values import (
    CompressionMethod,
    Grace,
    Labels,
    LogFormat,
    LogLevel,
    NameList,
    Servers,
    ThresholdBytes,
)

JOURNAL_OFF: Final = "off"
MIN_ORPHAN_AFTER: Final = 30.0
"""Three heartbeat intervals: less would take an agent for an orphan between two answers."""


def hostname_as_agent_id() -> str:
    """Return the host name, with hyphens in place of characters that agent ids must not contain."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname())[:128] or "agent"


def default_agent_id() -> str:
    """Return the id of the one agent that has enrolled on this host, or else the host name."""
    enrolled = enrolled_agents()
    return enrolled[0] if len(enrolled) == 1 else hostname_as_agent_id()


def _check_agent_id(agent_id: str) -> str:
    if not AGENT_ID_PATTERN.fullmatch(agent_id):
        raise ValueError("must be 1 to 128 of A-Z a-z 0-9 . _ -")
    return agent_id


def _check_orphan_after(seconds: float) -> float:
    if 0 < seconds < MIN_ORPHAN_AFTER:
        raise ValueError(f"must be 0, or at least {MIN_ORPHAN_AFTER:g}: a server answers every heartbeat interval")
    return seconds


class AgentSettings(CallerTls, PolicySettings, TrustedSignerSettings):
    """Settings chosen by the operator of the agent's host."""

    table: ClassVar[str] = "agent"
    model_config = SettingsConfigDict(env_prefix="DISTRIBUTOR_AGENT_")

    server: Servers = Field(
        "127.0.0.1:50051",
        description="Server to connect to, `host:port`; or several that share a Valkey, separated by commas.",
    )
    agent_id: Annotated[str, AfterValidator(_check_agent_id)] = Field(
        default_factory=default_agent_id,
        description="Id of this agent: 1 to 128 of `A-Z a-z 0-9 . _ -`.",
        json_schema_extra={"shown_default": "that of the one agent enrolled here, or the host's name"},
    )
    capacity: int = Field(1, ge=1, le=1_000, description="Slots of the commands that may run at once; most use one.")
    allow_exec: bool = Field(False, description="Allow `EXEC` to start programs on this host.")
    allowed_programs: NameList = Field(
        (),
        description="Comma-separated programs that `EXEC` may start; empty allows all.",
        json_schema_extra={"shown_default": "empty"},
    )
    labels: Labels = Field(
        default_factory=dict,
        description="Labels of this agent: a table, or comma-separated `name=value` pairs.",
        json_schema_extra={"shown_default": "empty"},
    )
    journal: str = Field(
        "",
        description="File with the agent's durable record of its commands, or `off` for none.",
        json_schema_extra={"shown_default": "`$XDG_STATE_HOME/distributor/agents/<agent_id>.journal`"},
    )
    journal_bytes: int = Field(
        256 * 1024 * 1024,
        ge=1024 * 1024,
        description="Maximum size of the journal in bytes. Near it, the agent takes no new commands.",
    )
    journal_sync: Literal["process", "disk"] = Field(
        "process",
        description="What the journal survives: the end of the `process`, or a power failure too (`disk`, slower).",
    )
    orphans: Literal["end", "report"] = Field(
        "end", description="Processes of a command that outlived the agent: `end` them, or `report` them in its result."
    )
    stop_grace: Grace = Field(5.0, description="Seconds between SIGTERM and SIGKILL when a command is stopped.")
    orphan_after: Annotated[float, AfterValidator(_check_orphan_after)] = Field(
        0.0,
        ge=0,
        le=MAX_DURATION_MS / 1_000,
        allow_inf_nan=False,
        description="Seconds without an answer from a server until all work is stopped: 0 for never, or 30 or more.",
    )
    compression: CompressionMethod = Field(
        "gzip",
        description="Compress messages with params, results or output: `gzip` if the server accepts it, or `off`.",
    )
    compression_threshold: ThresholdBytes = Field(
        1_024, description="Minimum average size of the commands or results in a compressed message, in bytes."
    )
    log_format: LogFormat = Field("console", description="Format of log lines.")
    log_level: LogLevel = Field("info", description="Minimum level of log lines.")

    @property
    def journal_path(self) -> Path | None:
        """Where the journal is; None for none."""
        if self.journal == JOURNAL_OFF:
            return None
        return Path(self.journal).expanduser().absolute() if self.journal else default_journal(self.agent_id)
