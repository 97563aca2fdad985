"""Commands, agents and results as the JSON documents that dashboards see, the same in every message and list."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

from distributor.model.agent import AgentInfo, AgentStatus
from distributor.model.command import CommandResult, CommandState, Reason
from distributor.model.lifecycle import CommandStatus

Document = dict[str, Any]

SHORT_STATUS: Final = {
    CommandStatus.QUEUED: "queued",
    CommandStatus.ASSIGNED: "running",
    CommandStatus.COMPLETED: "completed",
    CommandStatus.FAILED: "failed",
    CommandStatus.TIMEOUT: "failed",
    CommandStatus.CANCELLED: "interrupted",
}
"""The five words that dashboards show for the six states."""

_RECEIPTS: Final = ("queued", "assigned", "sent", "acknowledged", "started", "finished")


def command_document(state: CommandState, exit_code: int | None = None, agent_away_since_ms: int = 0) -> Document:
    """A command. `exit_code` is that of its result, None if there is none; of an agent that is connected, pass 0."""
    document: Document = {
        "commandId": state.command_id,
        "agentId": state.agent_id,
        "type": state.type,
        "paramsSummary": state.params_summary,
        "priority": state.priority,
        "status": SHORT_STATUS[state.status],
        "state": state.status.value,
        "attempt": state.attempt,
        "reason": _reason(state.reason),
        "receipts": {name: ms for name, ms in zip(_RECEIPTS, state.receipts, strict=True) if ms},
    }
    if agent_away_since_ms and state.status is CommandStatus.ASSIGNED:
        document["agentAwaySince"] = rfc3339(agent_away_since_ms)
    if state.cancel_ms:
        document["cancelRequested"] = state.cancel_ms
    if exit_code is not None:
        document["exitCode"] = exit_code
    return document


def result_document(result: CommandResult) -> Document:
    """How a command ended."""
    document: Document = {
        "commandId": result.command_id,
        "agentId": result.agent_id,
        "type": result.type,
        "status": SHORT_STATUS[result.status],
        "state": result.status.value,
        "attempt": result.attempt,
        "reason": _reason(result.reason),
        "data": json.loads(result.data_json) if result.data_json else None,
        "outputBytes": result.output_bytes,
        "outputDroppedBytes": result.output_dropped_bytes,
        "finished": result.finished_ms,
    }
    if result.exit_code is not None:
        document["exitCode"] = result.exit_code
    return document


def agent_document(agent: AgentInfo) -> Document:
    """An agent."""
    document: Document = {
        "agentId": agent.agent_id,
        "status": agent.status.value,
        "state": _finer_state(agent),
        "lastSeen": agent.last_seen_ms,
        "capacity": agent.capacity,
        "running": agent.running,
        "queued": agent.queued,
        "types": list(agent.types),
        "labels": agent.labels,
        "version": agent.version,
        "epoch": agent.epoch,
    }
    if agent.away_since_ms:
        document["awaySince"] = agent.away_since_ms
    return document


def _finer_state(agent: AgentInfo) -> str:
    match agent.status:
        case AgentStatus.OFFLINE:
            return "away"
        case AgentStatus.BUSY:
            return "busy"
        case AgentStatus.ONLINE:
            return "working" if agent.running else "idle"


def rfc3339(ms: int) -> str:
    """A time in UTC with milliseconds."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _reason(reason: Reason) -> Document:
    return {"code": reason.code, "message": reason.message}
