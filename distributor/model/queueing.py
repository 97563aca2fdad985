"""Queueing a command: the request, what is stored, its checks, and the answer. Times: ms by the store's clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from distributor.model.agent import AgentPresence
from distributor.model.command import (
    IDEMPOTENCY_KEY_PATTERN,
    MAX_DURATION_MS,
    MAX_PRIORITY,
    MAX_RUNS,
    MAX_RUNS_BY_REASON,
    MAX_SLOTS,
    NAMED_PRIORITIES,
    REASON_CODE_PATTERN,
    CommandLimits,
    InvalidField,
    OfflinePolicy,
    check_agent_id,
    check_type,
    shown,
)
from distributor.model.json_value import JsonValue
from distributor.model.requester import Requester


class QueueOutcome(StrEnum):
    """What became of a request to queue a command."""

    QUEUED = "queued"
    ALREADY_QUEUED = "already_queued"
    KEY_TAKEN = "key_taken"
    AGENT_OFFLINE = "agent_offline"
    QUEUE_FULL = "queue_full"
    UNSUPPORTED_TYPE = "unsupported_type"
    TOO_MANY_SLOTS = "too_many_slots"
    STOPPED = "stopped"
    TOO_MANY_COMMANDS = "too_many_commands"


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """One command to queue for one agent. None means the server's default.

    `params` go to the handler. `time_limit_seconds` bounds the run, `idle_limit_seconds` the time that it may give no
    sign of life (there is no default), `queue_ttl_seconds` the time in the queue. `slots` is how much of its agent's
    capacity it uses, one by default. `max_runs` bounds the runs if handlers report transient failures,
    `max_runs_by_reason` those after failures with a reason code, transient or not. The same `idempotency_key` with the
    same command queues once; without one the client mints a key for its own retries. `secret_params` are JSON pointers,
    such as `/password`, of params that only the agent may see.
    """

    agent_id: str
    type: str
    params: Mapping[str, JsonValue] = field(default_factory=dict)
    priority: int | None = None
    time_limit_seconds: float | None = None
    queue_ttl_seconds: float | None = None
    offline: OfflinePolicy = OfflinePolicy.QUEUE
    max_runs: int | None = None
    idempotency_key: str = ""
    idle_limit_seconds: float | None = None
    slots: int | None = None
    max_runs_by_reason: Mapping[str, int] = field(default_factory=dict)
    secret_params: Sequence[str] = ()


class NewCommand(NamedTuple):
    """A command to store, with all defaults filled in.

    `encoded` is the form sent to its agent, compressed if it is to be stored like that. It holds the params; only their
    size and summary matter here. `digest` identifies a request with an idempotency key: equal requests have equal
    digests. `requested_by` is who queues it, None if not known.
    """

    command_id: str
    agent_id: str
    type: str
    encoded: bytes
    params_bytes: int = 0
    params_summary: str = ""
    priority: int = NAMED_PRIORITIES["normal"]
    time_limit_ms: int = 300_000
    queue_ttl_ms: int = 86_400_000
    offline: OfflinePolicy = OfflinePolicy.QUEUE
    max_runs: int = 1
    idempotency_key: str = ""
    digest: str = ""
    idle_limit_ms: int | None = None
    slots: int = 1
    max_runs_by_reason: tuple[tuple[str, int], ...] = ()
    requested_by: Requester | None = None


class Enqueued(NamedTuple):
    """The answer to one request. With ALREADY_QUEUED, `command_id` names the earlier command.

    `agent_capacity` is known with TOO_MANY_SLOTS only, `stop_id` of the emergency stop with STOPPED only.
    """

    outcome: QueueOutcome
    command_id: str
    queued_ms: int
    agent: AgentPresence
    agent_capacity: int = 0
    stop_id: str = ""

    @property
    def already_queued(self) -> bool:
        """Whether an earlier request with the same idempotency key was found."""
        return self.outcome is QueueOutcome.ALREADY_QUEUED


def check_new_command(new: NewCommand, limits: CommandLimits) -> None:
    """Raise InvalidField, with the field and its limit, unless `new` may be queued."""
    check_agent_id(new.agent_id, "command.agent_id")
    check_type(new.type, "command.type")
    if new.params_bytes > limits.max_params_bytes:
        raise InvalidField(
            "command.params",
            "PARAMS_TOO_LARGE",
            f"command.params is {new.params_bytes:,} bytes, the limit is {limits.max_params_bytes:,}",
        )
    if not 0 <= new.priority <= MAX_PRIORITY:
        raise _out_of_range("command.priority", "PRIORITY_OUT_OF_RANGE", new.priority, 0, MAX_PRIORITY)
    if not 1 <= new.time_limit_ms <= MAX_DURATION_MS:
        raise _out_of_range("command.time_limit", "TIME_LIMIT_OUT_OF_RANGE", new.time_limit_ms, 1, MAX_DURATION_MS)
    if new.idle_limit_ms is not None and not 1 <= new.idle_limit_ms <= MAX_DURATION_MS:
        raise _out_of_range("command.idle_limit", "IDLE_LIMIT_OUT_OF_RANGE", new.idle_limit_ms, 1, MAX_DURATION_MS)
    if not 1 <= new.queue_ttl_ms <= MAX_DURATION_MS:
        raise _out_of_range("command.queue_ttl", "QUEUE_TTL_OUT_OF_RANGE", new.queue_ttl_ms, 1, MAX_DURATION_MS)
    if not 1 <= new.max_runs <= MAX_RUNS:
        raise _out_of_range("command.max_runs", "MAX_RUNS_OUT_OF_RANGE", new.max_runs, 1, MAX_RUNS)
    if not 1 <= new.slots <= MAX_SLOTS:
        raise _out_of_range("command.slots", "SLOTS_OUT_OF_RANGE", new.slots, 1, MAX_SLOTS)
    _check_runs_by_reason(new.max_runs_by_reason)
    if new.idempotency_key and not IDEMPOTENCY_KEY_PATTERN.fullmatch(new.idempotency_key):
        raise InvalidField(
            "idempotency_key",
            "INVALID_IDEMPOTENCY_KEY",
            "idempotency_key must be at most 128 printable ASCII characters without spaces",
        )


def _check_runs_by_reason(runs_by_reason: tuple[tuple[str, int], ...]) -> None:
    name = "command.max_runs_by_reason"
    if len(runs_by_reason) > MAX_RUNS_BY_REASON:
        raise InvalidField(
            name,
            "TOO_MANY_REASONS",
            f"{name} has {len(runs_by_reason):,} reasons, the limit is {MAX_RUNS_BY_REASON}",
        )
    for code, runs in runs_by_reason:
        if not REASON_CODE_PATTERN.fullmatch(code):
            raise InvalidField(
                name,
                "INVALID_REASON_CODE",
                f"{name} must name reasons by 1 to 64 of a-z 0-9 _, beginning with a letter, not {shown(code)}",
            )
        if not 1 <= runs <= MAX_RUNS:
            raise _out_of_range(name, "MAX_RUNS_OUT_OF_RANGE", runs, 1, MAX_RUNS)


def _out_of_range(field: str, reason: str, value: int, low: int, high: int) -> InvalidField:
    unit = " ms" if high == MAX_DURATION_MS else ""
    return InvalidField(field, reason, f"{field} must be {low:,} to {high:,}{unit}, not {value:,}{unit}")
