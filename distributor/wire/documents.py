"""The one JSON form of each value, shared by `cmd:result`, the CLI, the bridge's API and its messages.

Names are lowerCamelCase, as in protobuf JSON. Times are RFC 3339 in UTC with milliseconds, durations are seconds,
statuses are the names in `CommandStatus`. Every field is present, null if unset or not looked up.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from distributor.errors import DistributorError
from distributor.model.agent import AgentInfo
from distributor.model.command import Attempt, Command, CommandResult, CommandState, Reason, Receipts
from distributor.model.delivery import OutputChunk, OutputGap
from distributor.model.emergency_stop import EmergencyStop
from distributor.model.requester import Requester

Document: TypeAlias = dict[str, Any]

_EPOCH: Final = datetime.fromtimestamp(0, UTC)


def time_text(ms: int) -> str:
    """Format milliseconds since the epoch as RFC 3339 in UTC with milliseconds."""
    seconds, rest = divmod(ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat()[:19]}.{rest:03d}Z"


def milliseconds_of(text: str) -> int:
    """Parse what `time_text` wrote into milliseconds since the epoch. Raises ValueError if it has no time zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def state_document(state: CommandState) -> Document:
    """A command's state, as in lists and changes."""
    agent = state.agent
    return {
        "commandId": state.command_id,
        "agentId": state.agent_id,
        "type": state.type,
        "paramsSummary": state.params_summary,
        "priority": state.priority,
        "status": state.status.value,
        "revision": state.revision,
        "attempt": state.attempt,
        "reason": reason_document(state.reason),
        "receipts": receipts_document(state.receipts),
        "cancelTime": _time(state.cancel_ms),
        "cancelStage": state.cancel_stage.value if state.cancel_stage is not None else None,
        "agentKnown": agent.known if agent is not None else None,
        "agentAwaySince": _time(agent.away_since_ms) if agent is not None else None,
        "outputBytes": state.output_bytes,
        "requestedBy": _requester_document(state.requested_by),
    }


def _requester_document(requester: Requester | None) -> Document | None:
    if requester is None:
        return None
    return {
        "kind": requester.kind,
        "subject": requester.subject,
        "onBehalfOf": requester.on_behalf_of or None,
        "address": requester.address or None,
    }


def stop_document(stop: EmergencyStop) -> Document:
    """An emergency stop in force."""
    return {
        "stopId": stop.stop_id,
        "all": stop.scope.all,
        "selectors": list(stop.scope.selectors),
        "reason": stop.reason,
        "stoppedBy": stop.stopped_by,
        "stopTime": time_text(stop.since_ms),
    }


def command_document(command: Command) -> Document:
    """A command's state together with its request."""
    return state_document(command.state) | {
        "params": command.params,
        "timeLimitSeconds": seconds_of(command.time_limit_ms),
        "idleLimitSeconds": seconds_of(command.idle_limit_ms) if command.idle_limit_ms else None,
        "queueTtlSeconds": seconds_of(command.queue_ttl_ms),
        "offline": command.offline.value,
        "maxRuns": command.max_runs,
        "maxRunsByReason": dict(command.max_runs_by_reason),
        "retryOf": command.retry_of or None,
        "slots": command.slots,
        "progressTime": _time(command.state.progress_ms),
        "attempts": [attempt_document(one) for one in command.state.attempts],
        "secretParams": list(command.secret_params),
        "signedBy": command.signed_by or None,
        "lateResult": result_document(command.late_result) if command.late_result is not None else None,
    }


RECEIPT_NAMES: Final = ("queueTime", "assignTime", "sendTime", "acknowledgeTime", "startTime", "finishTime")
"""Names of the receipts, in the order of Receipts."""


def receipts_document(receipts: Receipts) -> Document:
    """The time at which the command passed each stage."""
    return {name: _time(ms) for name, ms in zip(RECEIPT_NAMES, receipts, strict=True)}


def attempt_document(attempt: Attempt) -> Document:
    """An attempt that has ended."""
    return {
        "number": attempt.number,
        "agentId": attempt.agent_id,
        "receipts": receipts_document(attempt.receipts),
        "reason": reason_document(attempt.reason),
        "started": attempt.started,
    }


def result_document(result: CommandResult) -> Document:
    """The result of a command. The store functions build the same document themselves (functions/_shared.lua)."""
    return {
        "commandId": result.command_id,
        "agentId": result.agent_id,
        "type": result.type,
        "status": result.status.value,
        "attempt": result.attempt,
        "reason": reason_document(result.reason),
        "exitCode": result.exit_code,
        "data": result.data,
        "outputBytes": result.output_bytes,
        "outputDroppedBytes": result.output_dropped_bytes,
        "finishTime": _time(result.finished_ms),
        "attempts": [attempt_document(one) for one in result.attempts],
    }


def agent_document(agent: AgentInfo) -> Document:
    """An agent."""
    return {
        "agentId": agent.agent_id,
        "status": agent.status.value,
        "epoch": agent.epoch,
        "revision": agent.revision,
        "capacity": agent.capacity,
        "running": agent.running,
        "slotsUsed": agent.slots_used,
        "queued": agent.queued,
        "types": list(agent.types),
        "labels": dict(agent.labels),
        "connectTime": _time(agent.connected_ms),
        "lastSeenTime": _time(agent.last_seen_ms),
        "awaySince": _time(agent.away_since_ms),
        "agentVersion": agent.version,
        "handlerLagSeconds": agent.handler_lag_ms / 1000,
        "problems": [{"code": code, "message": message} for code, message in agent.problems],
        "journalId": agent.journal_id,
    }


def output_document(chunk: OutputChunk) -> Document:
    """A chunk of output, its bytes in base64."""
    return {
        "stream": chunk.stream.value,
        "offset": chunk.offset,
        "data": base64.b64encode(chunk.data).decode(),
        "receiveTime": _time(chunk.received_ms),
    }


def gap_document(gap: OutputGap) -> Document:
    """A range of output that is no longer kept."""
    return {"beginOffset": gap.begin_offset, "endOffset": gap.end_offset}


def error_document(error: DistributorError) -> Document:
    """An error that refused a request; `retryAfterSeconds` only if waiting helps."""
    document: Document = {
        "code": error.code,
        "reason": error.reason,
        "field": error.field or None,
        "message": error.message,
    }
    if error.retry_after_seconds is not None:
        document["retryAfterSeconds"] = round(error.retry_after_seconds, 3)
    return document


def reason_document(reason: Reason) -> Document | None:
    """The reason for a command's status; None if it has none."""
    return {"code": reason.code, "message": reason.message} if reason.code else None


def seconds_of(ms: int) -> int | float:
    """Convert milliseconds to seconds: an int if whole, else a float."""
    return ms // 1000 if ms % 1000 == 0 else ms / 1000


def _time(ms: int) -> str | None:
    return time_text(ms) if ms else None
