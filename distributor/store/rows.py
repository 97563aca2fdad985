"""Converts between the store's bytes and model values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from distributor.model.agent import AgentInfo, AgentPresence
from distributor.model.agent_vitals import HEALTHY, AgentVitals
from distributor.model.command import Attempt, CommandResult, CommandState, Reason, Receipts
from distributor.model.delivery import Completion
from distributor.model.lifecycle import CancelStage, CommandStatus
from distributor.model.requester import Requester
from distributor.observability.logging import get_logger
from distributor.store.stored_form import plain_data
from distributor.wire.documents import RECEIPT_NAMES, milliseconds_of

logger = get_logger()

Row = Sequence[bytes | None]

_STATUSES: Final = {status.value: status for status in CommandStatus}
CANCEL_STAGES: Final = {stage.value: stage for stage in CancelStage}
"""Stages as stored."""

SESSION_FIELDS: Final = (
    "epoch",
    "connected",
    "capacity",
    "types",
    "labels",
    "version",
    "connected_ms",
    "last_seen_ms",
    "away_since_ms",
    "revision",
    "journal_id",
    "rival_ms",
    "rival_peer",
    "vitals",
    "late_after_ms",
    "flapping_ms",
    "journal_replaced_ms",
)
RIVAL_MS: Final = 300_000
"""How long an agent shows that another instance claimed its id, or that it attached too often."""
JOURNAL_REPLACED_MS: Final = 86_400_000
"""How long an agent shows that it came back without its journal."""


def command_state(command_id: str, row: Sequence[str]) -> CommandState:
    """Parse a row; fields in the order of `keys.ROW`, unset ones empty."""
    return CommandState(
        command_id,
        row[0],
        row[1],
        int(row[2] or 0),
        _STATUSES[row[3]],
        int(row[4] or 0),
        Receipts(*[int(value) if value else 0 for value in row[5:11]]),
        int(row[11] or 0),
        Reason(row[14], row[15]),
        row[13],
        int(row[12] or 0),
        cancel_stage=CANCEL_STAGES.get(row[16]) if row[16] else None,
        requested_by=requester_of(row[17]) if row[17] else None,
    )


def known_state(command_id: str, row: Sequence[str]) -> CommandState | None:
    """Parse a row as `command_state` does; None if it has a status that only a later version writes."""
    if row[3] not in _STATUSES:
        logger.warning("skipping a command with an unknown status", command_id=command_id, status=row[3])
        return None
    return command_state(command_id, row)


def text_row(row: Row) -> list[str]:
    """Decode a row to text; unset fields become empty."""
    return [value.decode() if value else "" for value in row]


def requester_text(requester: Requester | None) -> str:
    """A requester as stored: short, as Valkey stores a hash compactly only while no value exceeds 64 bytes."""
    return "\t".join(requester) if requester is not None else ""


def requester_of(text: str) -> Requester | None:
    """Parse what `requester_text` wrote. What another program wrote counts as a name."""
    if not text:
        return None
    parts = text.split("\t")
    return Requester(*parts) if len(parts) == len(Requester._fields) else Requester("", text)


def result_members(completion: Completion) -> str:
    """Members of the result's JSON that only the agent knows, each followed by a comma."""
    exit_code = "null" if completion.exit_code is None else completion.exit_code
    if completion.data_gzip:
        return f'"exitCode":{exit_code},"data":null,"dataGzip":"{completion.data_gzip}",'
    return f'"exitCode":{exit_code},"data":{completion.data_json or "null"},'


def command_result(text: bytes) -> CommandResult:
    """Parse a result from its JSON. Raises DistributorError if its data is compressed and cannot be decompressed."""
    document: dict[str, Any] = json.loads(text)
    reason, packed = document["reason"], document.get("dataGzip")
    return CommandResult(
        command_id=document["commandId"],
        agent_id=document["agentId"],
        type=document["type"],
        status=CommandStatus(document["status"]),
        attempt=document["attempt"],
        reason=Reason(reason["code"], reason["message"]) if reason is not None else Reason(),
        exit_code=document["exitCode"],
        data=plain_data(packed) if packed else document["data"],
        output_bytes=document["outputBytes"],
        output_dropped_bytes=document["outputDroppedBytes"],
        finished_ms=milliseconds_of(document["finishTime"]),
        attempts=tuple(_attempt(one) for one in document.get("attempts", ())),
    )


def attempts(agent_id: str, text: str) -> tuple[Attempt, ...]:
    """Parse the ended attempts of a command: one line of JSON each."""
    found = []
    for line in text.splitlines():
        number, assigned, sent, acknowledged, started, ended, code, message = json.loads(line)
        receipts = Receipts(0, assigned, sent, acknowledged, started, ended)
        found.append(Attempt(number, agent_id, receipts, Reason(code, message), started > 0))
    return tuple(found)


def _attempt(document: dict[str, Any]) -> Attempt:
    reason = document["reason"]
    times = [document["receipts"][name] for name in RECEIPT_NAMES]
    return Attempt(
        document["number"],
        document["agentId"],
        Receipts(*[milliseconds_of(text) if text else 0 for text in times]),
        Reason(reason["code"], reason["message"]) if reason is not None else Reason(),
        document["started"],
    )


def presence(row: Row, now_ms: int, offline_after_ms: int) -> AgentPresence:
    """Presence of an agent, from the session fields connected, last_seen_ms, away_since_ms."""
    connected, last_seen, away_since = row
    if connected is None:
        return AgentPresence(False, False, 0)
    last_seen_ms = int(last_seen or 0)
    if connected == b"1" and now_ms - last_seen_ms < offline_after_ms:
        return AgentPresence(True, True, 0)
    return AgentPresence(True, False, int(away_since or last_seen_ms))


class AgentCounts(NamedTuple):
    """Commands that run on an agent, the slots that they use, and commands that wait for it."""

    running: int
    slots_used: int
    queued: int


def agent_info(agent_id: str, row: Row, counts: AgentCounts, there: AgentPresence, now_ms: int = 0) -> AgentInfo | None:
    """What is known about an agent; `row` in the order of SESSION_FIELDS."""
    if row[0] is None:
        return None
    epoch, _, capacity, types, labels, version, connected_ms, last_seen_ms, _, revision, *more = text_row(row)
    journal_id, rival_ms, rival_peer, vitals_json, late_after, flapping_ms, journal_replaced_ms = more
    vitals = _vitals(vitals_json)
    late = bool(late_after) and now_ms - int(last_seen_ms or 0) >= int(late_after)
    problems = list(vitals.problems)
    if _within(RIVAL_MS, rival_ms, now_ms):
        problems.append(("duplicate_identity", f"another instance claims this id from {rival_peer}"))
    if _within(RIVAL_MS, flapping_ms, now_ms):
        problems.append(("flapping", "it attached too often; two instances may supersede each other"))
    degraded = late or bool(problems)
    if _within(JOURNAL_REPLACED_MS, journal_replaced_ms, now_ms):
        # It works well; what it ran before may be unknown.
        problems.append(("journal_replaced", "it came back with another journal than before, or none"))
    return AgentInfo(
        agent_id=agent_id,
        epoch=int(epoch),
        present=there.present,
        capacity=int(capacity or 0),
        running=counts.running,
        queued=counts.queued,
        types=tuple(filter(None, types.split(","))),
        labels=json.loads(labels or "{}"),
        version=version,
        connected_ms=int(connected_ms or 0),
        last_seen_ms=int(last_seen_ms or 0),
        away_since_ms=there.away_since_ms,
        revision=int(revision or 0),
        journal_id=journal_id,
        problems=tuple(problems),
        handler_lag_ms=vitals.handler_lag_ms,
        draining=vitals.draining,
        degraded=degraded,
        slots_used=counts.slots_used,
    )


def vitals_text(vitals: AgentVitals) -> str:
    """Vitals as stored with the session."""
    return json.dumps(vitals, separators=(",", ":"))


def _vitals(text: str) -> AgentVitals:
    if not text:
        return HEALTHY
    handler_lag_ms, draining, problems = json.loads(text)
    return AgentVitals(handler_lag_ms, draining, tuple((code, message) for code, message in problems))


def _within(period_ms: int, since: str, now_ms: int) -> bool:
    return bool(since) and now_ms - int(since) < period_ms
