"""Names of all keys, and of the fields of a command's status hash.

The keys COMMAND, STATUS, AGENT_COMMAND and RESULT are fixed: other programs read them. The names of a single command
have its id, and are built by `of_command`: an id minted for a shard begins with the shard's tag, so the names lie in
the shard's slot. All other names begin with the tag of a shard and are built by `in_shard`. The Lua functions get all
names from `lua_prelude()`, so this file is the only place that spells them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from distributor.model.agent_session import MAX_UNACKNOWLEDGED_OUTPUT_BYTES
from distributor.model.control import CONTROL_TYPES, INSTANCE_TYPES
from distributor.model.lifecycle import TERMINAL

ONLY_SHARD: Final = ""
"""The tag of the shard that all agents share."""


def in_shard(name: str, shard: str = ONLY_SHARD, **parts: object) -> str:
    """The name of an index, deadline, event stream or session in a shard; `parts` fill its placeholders."""
    # Not the tag: it has braces, too.
    return shard + name.format(**parts)


def of_command(name: str, command_id: str, shard: str = ONLY_SHARD, **parts: object) -> str:
    """The name of a key of a command in a shard; `parts` fill its other placeholders.

    An id that was minted elsewhere, before the store was divided or divided otherwise, stays as it is: its names have
    the shard's tag and a dot before it.
    """
    named = command_id if command_id.startswith(shard) else f"{shard}.{command_id}"
    return name.format(command_id=named, **parts)


class ShardNames(NamedTuple):
    """The names in one shard, by its tag."""

    shard: str = ONLY_SHARD

    def __call__(self, name: str, **parts: object) -> str:
        """The name of an index, deadline, event stream or session."""
        return in_shard(name, self.shard, **parts)

    def of_command(self, name: str, command_id: str, **parts: object) -> str:
        """The name of a key of a command."""
        return of_command(name, command_id, self.shard, **parts)


COMMAND: Final = "command:queue:{command_id}"
"""string: the command as a protobuf message; renamed to AGENT_COMMAND when the command ends."""
STATUS: Final = "command:status:{command_id}"
"""hash: revision, status, agent_id, attempt, lease_id, receipts and internal fields."""
AGENT_COMMAND: Final = "agent:{agent_id}:command:list:{command_id}"
"""string: marks that this agent has this command; holds the command once it has ended, to view or queue again."""
RESULT: Final = "cmd:result:{command_id}"
"""string: the result as JSON, written once; TTL."""
LATE_RESULT: Final = "cmd:late:{command_id}"
"""string: a result reported after the command had ended, as JSON; TTL."""
OUTPUT: Final = "command:output:{command_id}"
"""list: pieces in order; each begins with the offset after its last byte, so a reader can seek by offset."""
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
CALLER_COMMANDS: Final = "caller:{principal}:commands"
"""set: ids of the commands queued by this principal that have not ended."""
SESSION: Final = "agent:{agent_id}:session"
"""hash: replica, instance, epoch, connected, last seen, capacity, labels, types; TTL, renewed by heartbeats."""
AGENTS: Final = "agents"
"""zset, all scores 0: the ids of all known agents, in order."""

BY_STATUS: Final = "commands:status:{status}"
"""zset: the ids in this status; score = arrival in microseconds."""
DEADLINES: Final = "commands:deadlines"
"""zset: ids of live commands; score = time of the next deadline in milliseconds."""
DUE_PASSES: Final = "commands:due"
"""hash: when a server last looked at deadlines, and when the latest time without any such look ended."""
ENDED: Final = "commands:ended"
"""list: ids of retained commands in the order in which they ended; the sweep deletes from its beginning."""
INDEX_CHECK: Final = "commands:index_check"
"""string: the replica that checks the store, or that this has been done; TTL."""
AUDIT_HEAD: Final = "audit:head"
"""hash: the head of the audit trail and its MAC."""
AUDIT_SEGMENT: Final = "audit:segment:{chain}:{segment}"
"""stream: rows of the audit trail, `row` and `mac`; the id is the number of the row, as `7-0`."""
AUDIT_MANIFESTS: Final = "audit:manifests:{chain}"
"""hash: by number of a closed segment, the MAC of its manifest, a space, the manifest; never dropped."""
AUDIT_CHECKPOINT: Final = "audit:checkpoint"
"""string: the last signed checkpoint of the audit trail."""
AUDIT_SETTINGS: Final = "audit:settings"
"""string: JSON with a MAC for each setting of the server that started last, to name those that change."""
STOPS: Final = "stops"
"""hash: the emergency stops in force by id, each as JSON; does not exist while there is none."""
ENROLMENT_TOKEN: Final = "enrolment:token:{token_id}"
"""hash: digest of the secret, agents, labels, left, expires_ms; TTL."""
ENROLMENT_TOKENS: Final = "enrolment:tokens:{agent}"
"""set: the ids of the enrolment tokens that are for one agent alone; TTL of the last."""
GENERATIONS: Final = "agents:generations"
"""hash: how often each agent has enrolled."""
REVOCATIONS: Final = "revocations"
"""hash: `agent:`, `service:` or `token:` with an id → generation, revoked_ms, revoked_by and reason as JSON."""
REVOCATIONS_VERSION: Final = "revocations:version"
"""string: counts the changes of REVOCATIONS."""
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
    "cancel_stage",
    "requested_by",
)
"""Fields of the status hash visible to callers, in the order of the rows that functions return."""

OFTEN_READ: Final = (
    "status",
    "revision",
    "agent_id",
    "type",
    "lease_id",
    "attempt",
    "queued_us",
    "assigned_ms",
    "sent_ms",
    "acknowledged_ms",
    "started_ms",
    "rare",
    "priority",
    "params_summary",
    "requested_by",
)
"""Fields that almost every change of a command reads. `rare` is set if one of RARE is."""

RARE: Final = (
    "cancel_ms",
    "code",
    "message",
    "runs",
    "counted_lease",
    "uncounted",
    "output_bytes",
    "output_base",
    "output_dropped",
    "attempts",
    "latest_attempt",
    "given_up",
    "given_up_by",
    "doubt_until",
    "cancel_message",
    "cancel_stage",
    "instance_id",
    "slots",
    "extended_ms",
    "cancel_code",
)
"""Fields that few commands have."""

REQUEST: Final = ("expires_ms", "rank", "time_limit_ms", "max_runs")
"""Fields that are fixed when the command is queued."""

_OF_A_COMMAND: Final = {
    "command": COMMAND,
    "status": STATUS,
    "agent_command": AGENT_COMMAND,
    "result": RESULT,
    "late_result": LATE_RESULT,
    "output": OUTPUT,
}

_OF_A_SHARD: Final = {
    "idempotency": IDEMPOTENCY,
    "ready": READY,
    "control": CONTROL,
    "delayed": DELAYED,
    "assigned": ASSIGNED,
    "agent_commands": AGENT_COMMANDS,
    "caller_commands": CALLER_COMMANDS,
    "session": SESSION,
    "agents": AGENTS,
    "by_status": BY_STATUS,
    "deadlines": DEADLINES,
    "due_passes": DUE_PASSES,
    "ended": ENDED,
    "index_check": INDEX_CHECK,
    "audit_head": AUDIT_HEAD,
    "audit_segment": AUDIT_SEGMENT,
    "audit_manifests": AUDIT_MANIFESTS,
    "audit_checkpoint": AUDIT_CHECKPOINT,
    "audit_settings": AUDIT_SETTINGS,
    "stops": STOPS,
    "enrolment_token": ENROLMENT_TOKEN,
    "enrolment_tokens": ENROLMENT_TOKENS,
    "generations": GENERATIONS,
    "revocations": REVOCATIONS,
    "revocations_version": REVOCATIONS_VERSION,
    "events": EVENTS,
}


_PER_OWNER: Final = {
    name: template
    for name, template in _OF_A_SHARD.items()
    if any(owner in template for owner in ("{agent_id}", "{principal}"))
}
"""What there is for each agent, or for each principal."""


def lua_keys(source: str, known: str = "") -> str:
    """Lua source of the key functions that `source` uses and `known`, which has its own, does not.

    Lua permits 200 local variables at once, so each file defines the keys that only it needs.
    """
    used, known_ones = _keys_in(source), _keys_in(known)
    return "\n".join(text for name, text in _KEY_FUNCTIONS.items() if name in used and name not in known_ones)


def _keys_in(source: str) -> set[str]:
    return set(re.findall(r"\b(\w+)_key\b", source))


def lua_prelude(source: str | None = None) -> str:
    """Lua source that defines key names and field numbers for the functions.

    A template becomes a function `<name>_key(placeholder, ...)`, if `source` uses it; all do without a `source`.
    `named` is what `of_command` makes of an id.
    `SHARD` is the tag of the shard that a call is for. To find out what a key is, there are a name and a pattern for
    each template, in the order in which to try them. Fields become constants with their number, such as `F_STATUS`,
    counted over FIELDS, RARE_FIELDS and REQUEST_FIELDS; those of a row likewise, such as `ROW_STATUS`. The sets of
    special command types come from `model/control.py`.
    """
    lines = ["local SHARD = ''", f"local EVENTS = '{EVENTS}'", _NAMED]
    lines += _KEY_FUNCTIONS.values() if source is None else [lua_keys(source)]
    lines += [
        _lua_list("FIELDS", OFTEN_READ),
        _lua_list("RARE_FIELDS", RARE),
        _lua_list("REQUEST_FIELDS", REQUEST),
        _lua_list("ROW_FIELDS", ROW),
        f"local OUTPUT_WINDOW = {MAX_UNACKNOWLEDGED_OUTPUT_BYTES}",
        f"local F_RARE_END = {len(OFTEN_READ) + len(RARE)}",
        f"local CONTROL_TYPES = {_lua_set(CONTROL_TYPES)}",
        f"local INSTANCE_TYPES = {_lua_set(INSTANCE_TYPES)}",
        f"local FINAL = {_lua_set(TERMINAL)}",
        f"local NAMES_OF_A_COMMAND = {_lua_patterns(_OF_A_COMMAND)}",
        f"local NAMES_OF_A_SHARD = {_lua_patterns(_PER_OWNER)}",
    ]
    lines += [f"local F_{name.upper()} = {n}" for n, name in enumerate(OFTEN_READ + RARE + REQUEST, start=1)]
    lines += [
        f"local ROW_{name.upper()} = {ROW.index(name) + 1}" for name in ("agent_id", "type", "status", "started_ms")
    ]
    return "\n".join(lines) + "\n"


def _lua_list(name: str, words: Iterable[str]) -> str:
    return f"local {name} = {{{', '.join(repr(word) for word in words)}}}"


def _lua_patterns(templates: dict[str, str]) -> str:
    patterns = [f"{{'{name}', '^{re.sub(r'{.*?}', _matched, template)}$'}}" for name, template in templates.items()]
    return f"{{{', '.join(patterns)}}}"


def _matched(placeholder: re.Match[str]) -> str:
    """The Lua pattern of what may stand there: a principal may have colons."""
    return "(.+)" if placeholder[0] == "{principal}" else "([^:]+)"


def _lua_set(words: Iterable[str]) -> str:
    return "{" + ", ".join(f"['{word}'] = true" for word in sorted(words)) + "}"


def _lua_key(name: str, template: str, prefix: tuple[str, ...]) -> str:
    parts = re.split(r"{(\w+)}", template)
    pieces = [part if place % 2 else f"'{part}'" for place, part in enumerate(parts) if part]
    if not prefix:
        pieces = [f"named({piece})" if piece == "command_id" else piece for piece in pieces]
    return f"local function {name}_key({', '.join(parts[1::2])}) return {' .. '.join([*prefix, *pieces])} end"


_NAMED: Final = """\
local function named(command_id)
  if string.sub(command_id, 1, #SHARD) == SHARD then return command_id end
  return SHARD .. '.' .. command_id
end"""
"""What `of_command` does, in Lua."""

_KEY_FUNCTIONS: Final = {
    **{name: _lua_key(name, template, ()) for name, template in _OF_A_COMMAND.items()},
    **{name: _lua_key(name, template, ("SHARD",)) for name, template in _OF_A_SHARD.items()},
}
