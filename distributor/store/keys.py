"""The names of all keys, and of the fields of a command's status hash.

The first four are fixed: other programs read them. The rest are indexes that can be told from them. The store's
Lua functions get these names from `lua_prelude()`, so a name is spelt in this file and nowhere else.
"""

from __future__ import annotations

import re
from typing import Final

from distributor.model.control import CONTROL_TYPES, INSTANCE_TYPES

COMMAND: Final = "command:queue:{command_id}"
"""string: the command as its protobuf message; goes when the command has ended."""
ENDED_COMMAND: Final = "command:ended:{command_id}"
"""string: the same once the command has ended, to look at or to queue again; TTL."""
STATUS: Final = "command:status:{command_id}"
"""hash: status, agent_id, attempt, lease_id, receipts and what else decides; TTL once the command has ended."""
AGENT_COMMAND: Final = "agent:{agent_id}:command:list:{command_id}"
"""string: this agent has this command; lives as long as the status."""
RESULT: Final = "cmd:result:{command_id}"
"""string: the result as JSON, written once; TTL."""
LATE_RESULT: Final = "cmd:late:{command_id}"
"""string: a report that came after the command had ended, as JSON; TTL."""
OUTPUT: Final = "command:output:{command_id}"
"""stream: chunks; the id of an entry is the offset of the byte after its last, so a reader seeks by offset."""
IDEMPOTENCY: Final = "command:idempotency:{key}"
"""string: command id and request digest; TTL."""

READY: Final = "agent:{agent_id}:ready"
"""zset: ids to claim now; score = arrival in microseconds less what the priority is worth."""
CONTROL: Final = "agent:{agent_id}:control"
"""zset: as READY, for control commands (`model/control.py`): claimed first, and also when the agent is full."""
DELAYED: Final = "agent:{agent_id}:delayed"
"""set: queued ids that wait for another attempt or run, so are not ready; DEADLINES has when they are."""
ASSIGNED: Final = "agent:{agent_id}:assigned"
"""set: ids claimed for this agent that have not ended."""
AGENT_COMMANDS: Final = "agent:{agent_id}:commands"
"""zset: all remembered ids of this agent; score = arrival in microseconds."""
SESSION: Final = "agent:{agent_id}:session"
"""hash: replica, instance, epoch, connected, last seen, capacity, labels, types; TTL, renewed by heartbeats."""
AGENTS: Final = "agents"
"""zset, all scores 0: the ids of all remembered agents, in order of spelling."""

ALL_COMMANDS: Final = "commands:all"
"""zset: all remembered ids; score = arrival in microseconds."""
BY_STATUS: Final = "commands:status:{status}"
"""zset: the ids in this status; score = arrival in microseconds."""
DEADLINES: Final = "commands:deadlines"
"""zset: ids of live commands; score = the millisecond at which something must happen to them."""
RETENTION: Final = "commands:retention"
"""zset: `agent_id/command_id` of ended commands; score = the millisecond at which to forget them."""
EVENTS: Final = "events"
"""stream, capped: what happened; each entry is written by the function that made the change."""

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
    "params_summary",
    "code",
    "message",
)
"""Fields of the status hash that callers see, in the order in which events and lists carry them."""

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
    """Lua source that gives the functions their key names and field numbers.

    A template with a placeholder becomes a function `<name>_key(placeholder, ...)`, one without becomes a constant
    `<NAME>_KEY`. Each field becomes its number in `FIELDS`, such as `F_STATUS`. The sets of command types that are
    treated in a way of their own come from `model/control.py`.
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
