"""Values as JSON: names in lowerCamelCase, status words in lower case, times in RFC 3339, null where unset."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

from distributor.client import (
    Agent,
    Command,
    CommandRequest,
    CommandResult,
    CommandState,
    CommandSummary,
    OutputChunk,
    OutputGap,
    Reason,
    Receipts,
    Update,
)
from distributor.errors import DistributorError


def time_text(ms: int) -> str:
    """A time as RFC 3339 in UTC with milliseconds."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def command_form(command: Command) -> dict[str, Any]:
    """A command with its state."""
    return {
        "commandId": command.command_id,
        "agentId": command.agent_id,
        "type": command.type,
        "params": command.params,
        "priority": command.priority,
        "timeLimit": f"{command.time_limit_seconds:g}s",
        "queueTtl": f"{command.queue_ttl_seconds:g}s",
        "offline": command.offline.value,
        "maxRuns": command.max_runs,
        **state_form(command.state),
    }


def summary_form(summary: CommandSummary) -> dict[str, Any]:
    """One row of a list."""
    return {
        "commandId": summary.command_id,
        "agentId": summary.agent_id,
        "type": summary.type,
        "paramsSummary": summary.params_summary,
        "priority": summary.priority,
        **state_form(summary.state),
    }


def state_form(state: CommandState) -> dict[str, Any]:
    """What changes about a command; null where the server did not tell."""
    return {
        "status": state.status.value,
        "attempt": state.attempt,
        "reason": _reason(state.reason),
        "receipts": receipts_form(state.receipts),
        "cancelTime": _time(state.cancel_ms),
        "agentAwaySince": _time(state.agent_away_since_ms),
        "agentKnown": state.agent_known,
        "outputBytes": state.output_bytes,
    }


def receipts_form(receipts: Receipts) -> dict[str, Any]:
    """The time of each stage."""
    return {
        "queueTime": _time(receipts.queued_ms),
        "assignTime": _time(receipts.assigned_ms),
        "sendTime": _time(receipts.sent_ms),
        "acknowledgeTime": _time(receipts.acknowledged_ms),
        "startTime": _time(receipts.started_ms),
        "finishTime": _time(receipts.finished_ms),
    }


def result_form(result: CommandResult) -> dict[str, Any]:
    """How a command ended."""
    return {
        "commandId": result.command_id,
        "agentId": result.agent_id,
        "type": result.type,
        "status": result.status.value,
        "attempt": result.attempt,
        "reason": _reason(result.reason),
        "exitCode": result.exit_code,
        "data": result.data,
        "outputBytes": result.output_bytes,
        "outputDroppedBytes": result.output_dropped_bytes,
        "finishTime": _time(result.finished_ms),
    }


def update_form(command_id: str, update: Update) -> dict[str, Any]:
    """One step of a followed command: `state`, `output` (its bytes in base64), `gap` or `result`."""
    match update:
        case CommandSummary():
            return {"commandId": command_id, "state": summary_form(update)}
        case OutputChunk():
            output = {
                "stream": update.stream.value,
                "offset": update.offset,
                "data": base64.b64encode(update.data).decode(),
                "receiveTime": _time(update.received_ms),
            }
            return {"commandId": command_id, "output": output}
        case OutputGap():
            gap = {"beginOffset": update.begin_offset, "endOffset": update.end_offset}
            return {"commandId": command_id, "gap": gap}
        case CommandResult():
            return {"commandId": command_id, "result": result_form(update)}


def refusal_form(request: CommandRequest, error: DistributorError) -> dict[str, Any]:
    """A command that was not queued, and why."""
    why = {"code": error.code, "reason": error.reason, "field": error.field, "message": error.message}
    return {"commandId": None, "agentId": request.agent_id, "type": request.type, "error": why}


def agent_form(agent: Agent) -> dict[str, Any]:
    """One agent."""
    return {
        "agentId": agent.agent_id,
        "status": agent.status.value,
        "epoch": agent.epoch,
        "capacity": agent.capacity,
        "running": agent.running,
        "queued": agent.queued,
        "types": list(agent.types),
        "labels": dict(agent.labels),
        "connectTime": _time(agent.connected_ms),
        "lastSeenTime": _time(agent.last_seen_ms),
        "awaySince": _time(agent.away_since_ms),
        "agentVersion": agent.version,
    }


def _reason(reason: Reason) -> dict[str, str] | None:
    return {"code": reason.code, "message": reason.message} if reason.code else None


def _time(ms: int) -> str | None:
    return time_text(ms) if ms else None
