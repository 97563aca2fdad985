"""Commands and requests for them: values, limits and checks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from distributor.model.agent import AgentPresence
from distributor.model.json_value import JsonValue
from distributor.model.lifecycle import CancelStage, CommandStatus
from distributor.model.requester import Requester

AGENT_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
COMMAND_ID_PATTERN: Final = re.compile(r"(?:\{[0-9a-f]{1,8}\})?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
COMMAND_TYPE_PATTERN: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
IDEMPOTENCY_KEY_PATTERN: Final = re.compile(r"[\x21-\x7e]{1,128}")
REASON_CODE_PATTERN: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")

MAX_PRIORITY: Final = 100
NAMED_PRIORITIES: Final = {"low": 25, "normal": 50, "high": 75}
MAX_DURATION_MS: Final = 30 * 24 * 3_600_000
MAX_RUNS: Final = 100
MAX_SLOTS: Final = 1_000
"""Most that a command may use of its agent's capacity."""
MAX_RUNS_BY_REASON: Final = 16
MAX_REASON_MESSAGE: Final = 1_024
MAX_PARAMS_SUMMARY_BYTES: Final = 60
"""Valkey stores a hash compactly only while no value exceeds 64 bytes."""


class InvalidField(ValueError):
    """A field is outside its limits. `field` is its path, `reason` a stable code; `str()` states the limit."""

    def __init__(self, field: str, reason: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.reason = reason


class OfflinePolicy(StrEnum):
    """What to do with a command if its agent is offline when it is queued."""

    QUEUE = "queue"
    FAIL = "fail"


class Receipts(NamedTuple):
    """When a command reached each stage: milliseconds since the epoch by Valkey's clock, 0 if not reached."""

    queued_ms: int = 0
    assigned_ms: int = 0
    sent_ms: int = 0
    acknowledged_ms: int = 0
    started_ms: int = 0
    finished_ms: int = 0


class Reason(NamedTuple):
    """Why a command is in its state: a stable code and a sentence, both empty if there is nothing to say."""

    code: str = ""
    message: str = ""


class Attempt(NamedTuple):
    """An attempt that has ended. `started`: whether its handler was called, as far as is known.

    In `receipts`, `queued_ms` is 0 and `finished_ms` the end of the attempt.
    """

    number: int
    agent_id: str
    receipts: Receipts
    reason: Reason
    started: bool


class CommandState(NamedTuple):
    """The state of one command, as lists, events and watches carry it.

    `revision` counts the changes of the command, 1 when it is queued. It is the only order between two of its states:
    a reader keeps the highest and drops the rest. `cancel_ms` is when a cancel was requested, 0 if never, and
    `cancel_stage` how far it has got.
    `params_summary` is one readable line of at most MAX_PARAMS_SUMMARY_BYTES. `agent` is the agent's presence while the
    command has not ended, `output_bytes` the amount of output received; both are None if not looked up. `attempts` are
    those that have ended, oldest first, at most the latest 20; empty if not looked up. `progress_ms` is when it gave
    its last sign of life, if its agent reports it as silent, otherwise 0. `requested_by` is who queued it, if known.
    """

    command_id: str
    agent_id: str
    type: str
    priority: int
    status: CommandStatus
    attempt: int
    receipts: Receipts
    cancel_ms: int = 0
    reason: Reason = Reason()
    params_summary: str = ""
    revision: int = 1
    agent: AgentPresence | None = None
    output_bytes: int | None = None
    cancel_stage: CancelStage | None = None
    attempts: tuple[Attempt, ...] = ()
    progress_ms: int = 0
    requested_by: Requester | None = None


class Command(NamedTuple):
    """A command: its state and the original request. `params` are retained as long as the result.

    `idle_limit_ms` is 0 for no limit, `retry_of` the id of the command that this one repeats, empty if none; `slots` is
    how much of its agent's capacity it uses. `late_result` is the last report that came after the command had ended; it
    changes nothing else. None if there is none, or if not looked up.
    """

    state: CommandState
    params: Mapping[str, JsonValue]
    time_limit_ms: int
    queue_ttl_ms: int
    offline: OfflinePolicy
    max_runs: int
    idle_limit_ms: int = 0
    retry_of: str = ""
    slots: int = 1
    max_runs_by_reason: Mapping[str, int] = MappingProxyType({})
    late_result: CommandResult | None = None
    secret_params: tuple[str, ...] = ()
    """JSON pointers of params that only its agent sees; `params` have `***` in their place."""
    signed_by: str = ""
    """Id of the key with which its sender signed it; empty if it is not signed."""

    @property
    def command_id(self) -> str:
        """The command id."""
        return self.state.command_id


class CommandResult(NamedTuple):
    """How a command ended. `exit_code` is None if no program exited; `data` is what the handler returned."""

    command_id: str
    agent_id: str
    type: str
    status: CommandStatus
    attempt: int
    reason: Reason
    exit_code: int | None
    data: JsonValue
    output_bytes: int
    output_dropped_bytes: int
    finished_ms: int
    attempts: tuple[Attempt, ...] = ()
    """Those before the last, oldest first; at most the latest 20."""


@dataclass(frozen=True, slots=True)
class CommandLimits:
    """Limits on requests. `caller_commands` bounds the unfinished commands of one caller; 0 for any number."""

    max_params_bytes: int = 262_144
    max_batch: int = 1_000
    queue_limit: int = 1_000
    caller_commands: int = 0


def check_agent_id(agent_id: str, field: str = "agent_id") -> None:
    """Raise InvalidField unless `agent_id` is a valid agent id."""
    if not AGENT_ID_PATTERN.fullmatch(agent_id):
        raise InvalidField(
            field, "INVALID_AGENT_ID", f"{field} must be 1 to 128 of A-Z a-z 0-9 . _ -, not {shown(agent_id)}"
        )


def check_command_id(command_id: str, field: str = "command_id") -> None:
    """Raise InvalidField unless `command_id` is a valid command id."""
    if not COMMAND_ID_PATTERN.fullmatch(command_id):
        raise InvalidField(field, "INVALID_COMMAND_ID", f"{field} must be a command id, not {shown(command_id)}")


def check_type(command_type: str, field: str = "type") -> None:
    """Raise InvalidField unless `command_type` is a valid command type."""
    if not COMMAND_TYPE_PATTERN.fullmatch(command_type):
        raise InvalidField(
            field,
            "INVALID_TYPE",
            f"{field} must be a letter and up to 63 of A-Z a-z 0-9 . _ -, not {shown(command_type)}",
        )


def shown(text: str, limit: int = 40) -> str:
    """Quote `text` for an error message: control characters escaped, cut to `limit` characters."""
    if not text:
        return "empty"
    cut = text if len(text) <= limit else f"{text[:limit]}… ({len(text):,} characters)"
    return ascii(cut) if not cut.isprintable() else f"'{cut}'"
