"""Names of all keys, and of the fields of a command's status hash.

The keys COMMAND, STATUS, AGENT_COMMAND and RESULT are fixed: other programs read them. The Lua functions get all
names from `lua_prelude()`, so this file is the only place that spells them.
"""

from __future__ import annotations

import re
from typing import Final

from distributor.model.control import CONTROL_TYPES, INSTANCE_TYPES

COMMAND: Final = "command:queue:{command_id}"
"""string: the command as a protobuf message; renamed to ENDED_COMMAND when the command ends."""
ENDED_COMMAND: Final = "command:ended:{command_id}"
"""string: the command after it has ended, to view or queue again; TTL."""
STATUS: Final = "command:status:{command_id}"
"""hash: status, agent_id, attempt, lease_id, receipts and internal fields; TTL once the command has ended."""
AGENT_COMMAND: Final = "agent:{agent_id}:command:list:{command_id}"
"""string: marks that this agent has this command; expires with STATUS."""
RESULT: Final = "cmd:result:{command_id}"
"""string: the result as JSON, written once; TTL."""
LATE_RESULT: Final = "cmd:late:{command_id}"
"""string: a result reported after the command had ended, as JSON; TTL."""
OUTPUT: Final = "command:output:{command_id}"
"""stream: chunks; an entry's id is the offset after its last byte, so a reader can seek by offset."""
IDEMPOTENCY: Final = "command:idempotency:{key}"
"""string: command id and request digest; TTL."""

READY: Final = "agent:{agent_id}:ready"
"""zset: ids ready to be claimed; score = arrival in microseconds minus the bonus for priority."""
CONTROL: Final = "agent:{agent_id}:control"
"""zset: like READY, for control commands (`model/control.py`): claimed first, even if the agent is full."""
DELAYED: Final = "agent:{agent_id}:delayed"
"""set: queued ids that wait for another attempt or run and are not ready; DEADLINES holds the time."""
ASSIGNED: Final = "agent:{agent_id}:assigned"
"""set: ids claimed for this agent that have not ended."""
AGENT_COMMANDS: Final = "agent:{agent_id}:commands"
"""zset: all retained ids of this agent; score = arrival in microseconds."""
SESSION: Final = "agent:{agent_id}:session"
"""hash: replica, instance, epoch, connected, last seen, capacity, labels, types; TTL, renewed by heartbeats."""
AGENTS: Final = "agents"
"""zset, all scores 0: the ids of all known agents, in order."""

ALL_COMMANDS: Final = "commands:all"
"""zset: all retained ids; score = arrival in microseconds."""
BY_STATUS: Final = "commands:status:{status}"
"""zset: the ids in this status; score = arrival in microseconds."""
DEADLINES: Final = "commands:deadlines"
"""zset: ids of live commands; score = time of the next deadline in milliseconds."""
RETENTION: Final = "commands:retention"
"""zset: `agent_id/command_id` of ended commands; score = time of removal in milliseconds."""
EVENTS: Final = "events"
"""stream, capped: events; the function that makes a change also writes its entry."""

ROW: Final = (
    "agent_id",
    "type",
    "priority",
    "status",
    "attempt",
    "queued_ms",
    "assigned_ms",
    "sent_ms",
    "acknowledged_ms",
    "started_ms",
    "finished_ms",
    "cancel_ms",
    "revision",
    "params_summary",
    "code",
    "message",
)
"""Fields of the status hash visible to callers, in the order used by events and lists."""

DECISIVE: Final = (
    "lease_id",
    "queued_us",
    "rank",
    "expires_ms",
    "time_limit_ms",
    "max_runs",
    "runs",
    "counted_lease",
    "uncounted",
    "output_bytes",
    "output_base",
    "output_dropped",
    "given_up",
    "instance_id",
)
"""Fields of the status hash that only the functions read."""

_TEMPLATES: Final = {
    "command": COMMAND,
    "ended_command": ENDED_COMMAND,
    "status": STATUS,
    "agent_command": AGENT_COMMAND,
    "result": RESULT,
    "late_result": LATE_RESULT,
    "output": OUTPUT,
    "idempotency": IDEMPOTENCY,
    "ready": READY,
    "control": CONTROL,
    "delayed": DELAYED,
    "assigned": ASSIGNED,
    "agent_commands": AGENT_COMMANDS,
    "session": SESSION,
    "agents": AGENTS,
    "all_commands": ALL_COMMANDS,
    "by_status": BY_STATUS,
    "deadlines": DEADLINES,
    "retention": RETENTION,
    "events": EVENTS,
}


def lua_prelude() -> str:
    """Lua source that defines key names and field numbers for the functions.

    A template with placeholders becomes a function `<name>_key(placeholder, ...)`, one without becomes a constant
    `<NAME>_KEY`. Each field name becomes a constant with its number in `FIELDS`, such as `F_STATUS`. The sets of
    special command types come from `model/control.py`.
    """
    lines = [_lua_name(name, template) for name, template in _TEMPLATES.items()]
    fields = ROW + DECISIVE
    lines.append(f"local FIELDS = {{{', '.join(repr(field) for field in fields)}}}")
    lines.append(f"local ROW_LENGTH = {len(ROW)}")
    lines.append(f"local CONTROL_TYPES = {_lua_set(CONTROL_TYPES)}")
    lines.append(f"local INSTANCE_TYPES = {_lua_set(INSTANCE_TYPES)}")
    lines += [f"local F_{field.upper()} = {number}" for number, field in enumerate(fields, start=1)]
    return "\n".join(lines) + "\n"


def _lua_set(words: frozenset[str]) -> str:
    return "{" + ", ".join(f"['{word}'] = true" for word in sorted(words)) + "}"


def _lua_name(name: str, template: str) -> str:
    parts = re.split(r"{(\w+)}", template)
    if len(parts) == 1:
        return f"local {name.upper()}_KEY = '{template}'"
    pieces = [part if place % 2 else f"'{part}'" for place, part in enumerate(parts) if part]
    return f"local function {name}_key({', '.join(parts[1::2])}) return {' .. '.join(pieces)} end"
