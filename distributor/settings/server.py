"""Settings of one server process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Final, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from distributor.settings.values import (
    Address,
    Grace,
    LogFormat,
    LogLevel,
    PayloadBytes,
    Seconds,
    SettingsGroup,
    ValkeyUrl,
    split_address,
)

MOST_SEARCHED_FOR_A_DROP: Final = 10_000
"""The most commands that a store function searches for one to drop: some ten milliseconds of Valkey's time."""


def default_data_dir() -> Path:
    """Our folder below the state directory of the XDG base directory specification."""
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "distributor"


class ServerSettings(SettingsGroup):
    """The choices of whoever operates a server."""

    table: ClassVar[str] = "server"
    model_config = SettingsConfigDict(env_prefix="DISTRIBUTOR_")

    listen: Address = Field(
        "127.0.0.1:50051",
        description="Where agents and callers connect (gRPC), `host:port`. There is no authentication: on anything but "
        "loopback, everyone who reaches it can use it.",
    )
    http_listen: Address = Field(
        "127.0.0.1:9464", description="Where `/metrics`, `/healthz` and `/readyz` are served, `host:port`."
    )
    valkey_url: ValkeyUrl = Field(
        "",
        description="The Valkey to use, such as `valkey://127.0.0.1:6379/0`. Empty: start an embedded one.",
        json_schema_extra={"shown_default": "empty"},
    )
    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="Folder in which the embedded Valkey keeps its data.",
        json_schema_extra={"shown_default": "`$XDG_STATE_HOME/distributor`, or `~/.local/state/distributor`"},
    )

    polling_interval: Seconds = Field(
        5.0, description="Seconds between polls for queued commands. A safety net: a new command is claimed at once."
    )
    cleanup_interval: Seconds = Field(
        3600.0, description="Seconds between clean-up sweeps. Deadlines do not depend on them."
    )
    batch_size: int = Field(20, ge=1, le=20, description="The most commands claimed for one agent, or sent, at once.")

    heartbeat_interval: Seconds = Field(10.0, description="Seconds between heartbeats of an agent.")
    offline_after: Seconds = Field(30.0, description="Seconds of silence after which an agent is offline.")
    start_within: Seconds = Field(
        15.0,
        description="Seconds: an agent starts a command only if the heartbeat answered before it is younger than this.",
    )
    ack_deadline: Seconds = Field(
        20.0, description="Seconds an agent has to acknowledge a command before it counts as not delivered."
    )
    delivery_attempts: int = Field(3, ge=1, le=100, description="How often delivery is tried before a command fails.")
    retry_first: Seconds = Field(1.0, description="Seconds: the longest wait before the second attempt; then doubled.")
    retry_most: Seconds = Field(60.0, description="Seconds: the longest wait before any attempt.")

    time_limit: Seconds = Field(300.0, description="Seconds a command may run, unless it sets its own limit.")
    queue_ttl: Seconds = Field(86400.0, description="Seconds a command may wait in the queue, unless it sets its own.")
    stop_grace: Grace = Field(
        5.0, description="Seconds added to a command's time limit for its agent to stop it and report."
    )
    priority_ageing: Seconds = Field(60.0, description="Seconds of waiting that outweigh one point of priority.")

    queue_limit: int = Field(1_000, ge=1, le=1_000_000, description="The most commands that may wait for one agent.")
    queue_full: Literal["refuse", "drop"] = Field(
        "refuse",
        description="What happens at `queue_limit`: refuse the new command, or drop the oldest of the lowest priority.",
    )
    max_params_bytes: PayloadBytes = Field(262_144, description="The most bytes of parameters of one command.")
    max_result_bytes: PayloadBytes = Field(262_144, description="The most bytes of a result's data, as JSON.")
    output_kept_bytes: int = Field(
        1_048_576, ge=65_536, le=1_073_741_824, description="Bytes of output kept of one command; older ones are cut."
    )
    output_hold: Seconds = Field(
        60.0,
        description="Seconds that a program waits for a reader of its output that does not read; then output is cut.",
    )
    result_retention: Seconds = Field(
        604_800.0, ge=60.0, description="Seconds that results and ended commands are kept."
    )
    max_watchers: int = Field(1_000, ge=1, le=100_000, description="The most watch calls served at once.")

    max_calls: int = Field(2_000, ge=1, le=100_000, description="The most calls served at once, watch calls included.")
    max_agents: int = Field(20_000, ge=1, le=1_000_000, description="The most agents attached to one server.")

    drain_timeout: Grace = Field(20.0, description="Seconds that calls and streams have to end when the server stops.")
    loop_stall_threshold: Seconds = Field(
        0.1, description="Seconds for which the event loop may be blocked before a line says what blocks it."
    )
    log_format: LogFormat = Field("console", description="How log lines look.")
    log_level: LogLevel = Field("info", description="The lowest level of log lines to write.")
    reflection: bool = Field(False, description="Whether to serve gRPC reflection.")

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, data_dir: Path) -> Path:
        return data_dir.expanduser().absolute()

    @model_validator(mode="after")
    def _together(self) -> Self:
        problems = list(self._contradictions())
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _contradictions(self) -> Iterator[str]:
        yield from _must_exceed(self, "start_within", "heartbeat_interval", "or agents refuse every command as stale")
        yield from _must_exceed(self, "ack_deadline", "start_within", "or a command could start after it was given up")
        yield from _must_exceed(self, "offline_after", "heartbeat_interval", "or every agent counts as gone")
        if self.listen == self.http_listen and split_address(self.listen)[1]:
            yield f"listen and http_listen must differ, not both be {self.listen}"
        if self.retry_most < self.retry_first:
            yield f"retry_most ({self.retry_most:g} s) must not be less than retry_first ({self.retry_first:g} s)"
        if self.queue_full == "drop" and self.queue_limit > MOST_SEARCHED_FOR_A_DROP:
            yield (
                f"queue_limit ({self.queue_limit:,}) must be at most {MOST_SEARCHED_FOR_A_DROP:,} where queue_full is "
                "drop, or finding what to drop holds Valkey up"
            )


def _must_exceed(settings: ServerSettings, more: str, less: str, why: str) -> Iterator[str]:
    high, low = getattr(settings, more), getattr(settings, less)
    if high <= low:
        yield f"{more} ({high:g} s) must be more than {less} ({low:g} s), {why}"
