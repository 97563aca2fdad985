"""Builds the messages of the bridge as text, one function per type. protocol.schema.json describes them.

The envelope keeps the field names of the original dashboard protocol; commands, agents and results are the documents of
`distributor.wire.documents`.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from distributor.bridge.backend_status import Availability
from distributor.errors import DistributorError
from distributor.model.agent import AgentInfo, AgentStatus
from distributor.model.delivery import OutputChunk, OutputGap
from distributor.model.emergency_stop import EmergencyStop
from distributor.model.lifecycle import CommandStatus
from distributor.wire.documents import (
    Document,
    agent_document,
    error_document,
    gap_document,
    stop_document,
    time_text,
)

VERSION: Final = "1.0.0"
SHORT_STATUS: Final = {
    CommandStatus.QUEUED: "queued",
    CommandStatus.ASSIGNED: "running",
    CommandStatus.COMPLETED: "completed",
    CommandStatus.FAILED: "failed",
    CommandStatus.TIMEOUT: "failed",
    CommandStatus.CANCELLED: "interrupted",
}
"""Short status in the envelope of `command:status`."""
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False).encode


def bytes_of(document: Document) -> int:
    """Size of a document in a message, in bytes."""
    return len(_encode(document).encode())


def connected(fields: Document) -> str:
    """The reply to dashboard:connect."""
    return _message("connected", fields)


def renewed(expires_ms: int | None, request_id: str) -> str:
    """The reply to dashboard:renew."""
    expire_time = time_text(expires_ms) if expires_ms is not None else None
    return _message("renewed", {"expireTime": expire_time} | _non_empty(requestId=request_id))


def resync(reason: str, position: str, agents: Sequence[Document], commands: Sequence[Document]) -> str:
    """A snapshot after possibly missed changes."""
    return _message("resync", {"reason": reason, "position": position, "agents": agents, "commands": commands})


def bridge_status(server: Availability, valkey: Availability, insecure: Sequence[str] = ()) -> str:
    """Availability of the server and Valkey, and what is insecure, by the names of the schema."""
    fields = {
        "timestamp": time_text(int(time.time() * 1000)),
        "server": _availability(server),
        "valkey": _availability(valkey),
        "insecure": list(insecure),
    }
    return _message("bridge:status", fields)


def emergency_stops(stops: Sequence[EmergencyStop]) -> str:
    """The emergency stops in force."""
    return _message("emergency:stops", {"stops": [stop_document(stop) for stop in stops]})


def agent_status(agent: AgentInfo, now_ms: int) -> str:
    """An agent changed. `status` is in the original protocol's words: busy while it executes anything."""
    connected_status = AgentStatus.BUSY if agent.running > 0 else AgentStatus.ONLINE
    status = connected_status if agent.present else AgentStatus.OFFLINE
    fields = {"agentId": agent.agent_id, "status": status, "timestamp": now_ms, "agent": agent_document(agent)}
    return _message("agent:status", fields)


def agents_seen(seen: Mapping[str, str]) -> str:
    """Last-seen times by agent id."""
    return _message("agents:seen", {"seen": seen})


def command_accepted(command_id: str, agent_id: str, already_queued: bool, request_id: str) -> str:
    """The reply to command:request."""
    fields = {"commandId": command_id, "agentId": agent_id, "alreadyQueued": already_queued}
    return _message("command:accepted", fields | _non_empty(requestId=request_id))


def command_retried(command_id: str, new_command_id: str, request_id: str) -> str:
    """The reply to command:retry."""
    fields = {"commandId": command_id, "newCommandId": new_command_id}
    return _message("command:retried", fields | _non_empty(requestId=request_id))


def command_status(command: Document, position: str = "") -> str:
    """A command changed. `position` is empty if the state was read or cannot be resumed from."""
    fields: Document = {"commandId": command["commandId"], "status": SHORT_STATUS[CommandStatus(command["status"])]}
    if command["exitCode"] is not None:
        fields["exitCode"] = command["exitCode"]
    return _message("command:status", fields | _non_empty(position=position) | {"command": command})


def command_result(result: Document) -> str:
    """The result of a command."""
    return _message("command:result", {"commandId": result["commandId"], "result": result})


def output_tail(command_id: str, chunk: OutputChunk) -> str:
    """A terminal:output message without its start, which is the only part that differs between viewers."""
    fields: Document = {
        "commandId": command_id,
        "stream": chunk.stream.value,
        "offset": chunk.offset,
        "receiveTime": time_text(chunk.received_ms),
    }
    try:
        fields["data"] = chunk.data.decode()
    except UnicodeDecodeError:
        fields["data"] = base64.b64encode(chunk.data).decode()
        fields["encoding"] = "base64"
    return _encode(fields)[1:]


def terminal_output(sequence: int, tail: str) -> str:
    """A terminal:output message completed from `output_tail`."""
    return f'{{"type":"terminal:output","version":"{VERSION}","sequence":{sequence},{tail}'


def gap(command_id: str, begin: int, end: int, reason: str) -> str:
    """Output that will not be sent."""
    return _message("gap", {"commandId": command_id, **gap_document(OutputGap(begin, end)), "reason": reason})


def error(refusal: DistributorError, request_id: str = "", command_id: str = "") -> str:
    """A rejected request."""
    return _message("error", error_document(refusal) | _non_empty(requestId=request_id, commandId=command_id))


def pong(now_ms: int, position: str, request_id: str) -> str:
    """The reply to ping."""
    return _message("pong", {"serverTime": time_text(now_ms), "position": position} | _non_empty(requestId=request_id))


def _availability(availability: Availability) -> Document:
    fault = availability.fault
    return {"available": fault is None, "since": time_text(availability.since_ms), "message": fault}


def _non_empty(**fields: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}


def _message(type_: str, fields: Mapping[str, Any]) -> str:
    return _encode({"type": type_, "version": VERSION, **fields})
