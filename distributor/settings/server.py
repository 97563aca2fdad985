"""Settings of a server process."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import ClassVar, Final, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from distributor.environment import state_folder
from distributor.settings.agent_limits import AgentLimitSettings
from distributor.settings.audit import AuditSettings
from distributor.settings.caller_limits import CallerLimitSettings
from distributor.settings.connection_limits import GrpcLimitSettings, HttpLimitSettings
from distributor.settings.credential_limits import CredentialLimitSettings
from distributor.settings.enrolment import EnrolmentSettings
from distributor.settings.labels import LabelSettings
from distributor.settings.policy import PolicySettings
from distributor.settings.tls import ServerTls
from distributor.settings.tokens import TokenSettings
from distributor.settings.valkey_tls import ValkeyTls
from distributor.settings.values import (
    Address,
    CompressionMethod,
    Grace,
    LogFormat,
    LogLevel,
    PayloadBytes,
    Seconds,
    ThresholdBytes,
    ValkeyUrl,
    split_address,
)
from distributor.settings.workers import WorkerSettings

MAX_DROP_SCAN: Final = 10_000
"""Maximum number of commands a store function scans to find one to drop: about ten milliseconds in Valkey."""


class ServerSettings(
    ServerTls,
    EnrolmentSettings,
    TokenSettings,
    LabelSettings,
    PolicySettings,
    AuditSettings,
    ValkeyTls,
    CallerLimitSettings,
    GrpcLimitSettings,
    HttpLimitSettings,
    CredentialLimitSettings,
    AgentLimitSettings,
    WorkerSettings,
):
    """Settings chosen by the operator of a server."""

    table: ClassVar[str] = "server"
    model_config = SettingsConfigDict(env_prefix="DISTRIBUTOR_")

    listen: Address = Field(
        "127.0.0.1:50051",
        description="Address for agents and callers (gRPC), `host:port`. Beyond loopback it needs `tls_cert`.",
    )
    http_listen: Address = Field(
        "127.0.0.1:9464", description="Address of `/metrics`, `/healthz` and `/readyz`, `host:port`."
    )
    valkey_url: ValkeyUrl = Field(
        "",
        description="Valkey to use, such as `valkey://127.0.0.1:6379/0`, or the Sentinels of its primary, such as "
        "`valkey+sentinel://a:26379,b:26379/name`; empty starts an embedded one.",
        json_schema_extra={"shown_default": "empty"},
    )
    data_dir: Path = Field(
        default_factory=state_folder,
        description="Data folder of the embedded Valkey.",
        json_schema_extra={"shown_default": "`$XDG_STATE_HOME/distributor`, or `~/.local/state/distributor`"},
    )

    durability: Literal["process", "disk", "replicated"] = Field(
        "process",
        description="What an acknowledged change survives: the end of any `process`, Valkey included; a power failure "
        "(`disk`); or the loss of the primary Valkey (`replicated`).",
    )
    replicas_acked: int = Field(
        1, ge=1, le=100, description="Replicas that must have a change before it is acknowledged, if `replicated`."
    )

    polling_interval: Seconds = Field(
        5.0, description="Seconds between polls for queued commands. A safety net: new commands are claimed at once."
    )
    cleanup_interval: Seconds = Field(
        3600.0, description="Seconds between cleanup sweeps, and between index checks. Deadlines do not depend on them."
    )
    batch_size: int = Field(
        20, ge=1, le=20, description="Maximum number of commands claimed for an agent, or sent in a message, at once."
    )

    heartbeat_interval: Seconds = Field(10.0, description="Seconds between an agent's heartbeats.")
    offline_after: Seconds = Field(30.0, description="Seconds of silence after which an agent is offline.")
    start_within: Seconds = Field(
        15.0,
        description="Seconds after an answered heartbeat during which an agent may start commands received since.",
    )
    ack_deadline: Seconds = Field(
        20.0, description="Seconds an agent has to acknowledge a command before it is delivered again."
    )
    delivery_attempts: int = Field(3, ge=1, le=100, description="Delivery attempts before a command fails.")
    retry_first: Seconds = Field(
        1.0, description="Seconds: maximum backoff before the second attempt; doubles with each further one."
    )
    retry_most: Seconds = Field(60.0, description="Seconds: maximum backoff before any attempt.")

    time_limit: Seconds = Field(300.0, description="Seconds a command may run, unless it sets its own limit.")
    queue_ttl: Seconds = Field(86400.0, description="Seconds a command may stay queued, unless it sets its own limit.")
    stop_grace: Grace = Field(
        5.0, description="Seconds beyond the time limit for an agent to stop a command and report."
    )
    priority_ageing: Seconds = Field(60.0, description="Seconds of waiting that outweigh one point of priority.")

    queue_limit: int = Field(1_000, ge=1, le=1_000_000, description="Maximum number of commands queued for one agent.")
    queue_full: Literal["refuse", "drop"] = Field(
        "refuse",
        description="At `queue_limit`, refuse the new command, or drop the oldest one of the lowest priority.",
    )
    max_params_bytes: PayloadBytes = Field(262_144, description="Maximum size of a command's params, in bytes.")
    max_result_bytes: PayloadBytes = Field(262_144, description="Maximum size of a result's data, in bytes of JSON.")
    output_kept_bytes: int = Field(
        1_048_576, ge=65_536, le=1_073_741_824, description="Bytes of output kept per command; the oldest are dropped."
    )
    output_hold: Seconds = Field(
        60.0,
        description="Seconds a program waits for a slow reader of its output; then output is dropped.",
    )
    result_retention: Seconds = Field(
        604_800.0, ge=60.0, description="Seconds that finished commands and their results are kept."
    )
    events_kept: int = Field(
        5_000,
        ge=100,
        le=10_000_000,
        description="Entries of the event stream kept for readers that fall behind, about; unused with "
        "`events_kept_for`.",
    )
    events_kept_for: float = Field(
        0.0,
        ge=0.0,
        le=2_592_000.0,
        description="Seconds that entries of the event stream are kept; 0 keeps `events_kept`.",
    )
    max_watchers: int = Field(1_000, ge=1, le=100_000, description="Maximum number of concurrent watch calls.")

    max_calls: int = Field(
        2_000,
        ge=1,
        le=100_000,
        description="Maximum number of concurrent calls, watch calls included. One caller may make half of them.",
    )
    max_agents: int = Field(20_000, ge=1, le=1_000_000, description="Maximum number of attached agents.")
    attach_rate: int = Field(
        500,
        ge=1,
        le=100_000,
        description="Agents that may attach per second, and at once; others are given a time at which to return.",
    )

    compression: CompressionMethod = Field(
        "gzip",
        description="Compress messages with params, results or output: `gzip` if the peer accepts it, or `off`.",
    )
    compression_threshold: ThresholdBytes = Field(
        1_024, description="Minimum average size of the commands or results in a compressed message, in bytes."
    )
    stored_compression: CompressionMethod = Field(
        "off",
        description="Compress params, results and output of at least `compression_threshold` bytes in Valkey: `gzip` "
        "or `off`. Turn it on only when every server and bridge on this Valkey can read it.",
    )

    drain_timeout: Grace = Field(20.0, description="Seconds that calls and streams have to end when the server stops.")
    loop_stall_threshold: Seconds = Field(
        0.1, description="Seconds of a blocked event loop before its stack is logged."
    )
    log_format: LogFormat = Field("console", description="Format of log lines.")
    log_level: LogLevel = Field("info", description="Minimum level of log lines.")
    reflection: bool = Field(False, description="Serve gRPC reflection.")

    @property
    def authenticates(self) -> bool:
        """Whether callers can prove who they are, and therefore must."""
        return self.client_ca is not None or self.verifies_tokens

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, data_dir: Path) -> Path:
        return data_dir.expanduser().absolute()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = list(self._contradictions())
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _contradictions(self) -> Iterator[str]:
        yield from _must_exceed(self, "start_within", "heartbeat_interval", "or agents refuse every command as stale")
        yield from _must_exceed(
            self, "ack_deadline", "start_within", "or a command could start after delivery was given up"
        )
        yield from _must_exceed(self, "offline_after", "heartbeat_interval", "or every agent goes offline")
        yield from self._shared_addresses()
        yield from self._message_room()
        if self.verified_labels and not self.authenticates:
            yield "verified_labels needs authentication: set client_ca, or a key that verifies tokens"
        if self.durability == "replicated" and not self.valkey_url:
            yield "durability replicated needs a valkey_url: the embedded Valkey has no replicas"
        if self.retry_most < self.retry_first:
            yield f"retry_most ({self.retry_most:g} s) must not be less than retry_first ({self.retry_first:g} s)"
        if self.queue_full == "drop" and self.queue_limit > MAX_DROP_SCAN:
            yield (
                f"queue_limit ({self.queue_limit:,}) must be at most {MAX_DROP_SCAN:,} if queue_full is "
                "drop, or the search for a command to drop blocks Valkey"
            )

    def _shared_addresses(self) -> Iterator[str]:
        addresses = {name: getattr(self, name) for name in ("listen", "http_listen", "mtls_listen")}
        for (one, address), (other, second) in combinations(addresses.items(), 2):
            if address and address == second and split_address(address)[1]:
                yield f"{one} and {other} must differ, not both be {address}"

    def _message_room(self) -> Iterator[str]:
        for name in ("max_params_bytes", "max_result_bytes"):
            # Agents combine twenty results, and clients as many commands.
            least = round(20 * getattr(self, name) * 1.05)
            if self.max_message_bytes < least:
                yield (
                    f"max_message_bytes ({self.max_message_bytes:,}) must be at least {least:,}, room for twenty times "
                    f"{name} ({getattr(self, name):,})"
                )


def _must_exceed(settings: ServerSettings, larger: str, smaller: str, why: str) -> Iterator[str]:
    high, low = getattr(settings, larger), getattr(settings, smaller)
    if high <= low:
        yield f"{larger} ({high:g} s) must be more than {smaller} ({low:g} s), {why}"
