"""Parses entries of the event stream: pairs of an id and a JSON object with named members.

Unknown members and kinds are those of a later version and are ignored; so replicas of two adjoining versions can share
a Valkey.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, overload

from distributor.model.command import CommandState, Reason, Receipts
from distributor.model.event import (
    AgentChanged,
    CommandChanged,
    CommandReady,
    Event,
    EventBatch,
    EventKind,
    LateReport,
    OutputArrived,
    StopsChanged,
)
from distributor.model.lifecycle import CommandStatus
from distributor.observability.logging import get_logger
from distributor.store.rows import CANCEL_STAGES, requester_of

logger = get_logger()

_KINDS: Final = {kind.value: kind for kind in EventKind}
_STATUSES: Final = {status.value: status for status in CommandStatus}
_TEXTS: Final = frozenset(
    {
        "agent_id",
        "type",
        "status",
        "params_summary",
        "code",
        "message",
        "cancel_stage",
        "cancel_message",
        "requested_by",
    }
)
_NUMBERS: Final = frozenset({"revision", "priority", "attempt", "cancel_ms", "epoch", "end_offset", *Receipts._fields})
_RECEIPTS: Final = frozenset(Receipts._fields)
NO_REASON: Final = Reason()
_MAX_NUMBER: Final = 2**63


class EventEntries:
    """Parses entries for one reader, and logs once if some are malformed.

    Malformed events are skipped: one bad entry must not hide all later ones.
    """

    def __init__(self) -> None:
        self._warned = False

    def batch(self, entry_id: bytes, fields: Sequence[bytes]) -> EventBatch:
        """A batch of one entry, whose events are parsed when they are looked at; none if nothing is readable."""
        position = entry_id.decode()
        # The first pair names the replica that made the change; each further pair is a subject and its event.
        if not fields or fields[0] != b"origin":
            self._unreadable(position)
            return EventBatch(position, "", ())
        events = _LaterEvents(lambda: self._events(position, fields[2:]))
        return EventBatch(position, fields[1].decode(errors="replace"), events)

    def _events(self, position: str, fields: Sequence[bytes]) -> list[Event]:
        events: list[Event] = []
        for place in range(0, len(fields), 2):
            try:
                document = json.loads(fields[place + 1].decode())
                check_document(document)
                event = parse_event(fields[place].decode(), document)
            except (ValueError, KeyError, TypeError, RecursionError):
                self._unreadable(position)
                continue
            if event is not None:
                events.append(event)
        return events

    def _unreadable(self, position: str) -> None:
        if not self._warned:
            self._warned = True
            logger.warning("skipping unreadable events", first=position)


class _LaterEvents(Sequence[Event]):
    """Events that are parsed when somebody looks: a replica skips those of its own changes."""

    def __init__(self, parse: Callable[[], list[Event]]) -> None:
        self._parse = parse
        self._parsed: list[Event] | None = None

    def _events(self) -> list[Event]:
        if self._parsed is None:
            self._parsed = self._parse()
        return self._parsed

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events())

    def __len__(self) -> int:
        return len(self._events())

    @overload
    def __getitem__(self, place: int) -> Event: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Event]: ...

    def __getitem__(self, place: int | slice) -> Event | Sequence[Event]:
        return self._events()[place]


def own_events(fields: Sequence[bytes]) -> list[Event]:
    """Parse pairs of a subject and its event, as a function of this version has just returned them."""
    documents = json.loads(b"[" + b",".join(fields[1::2]) + b"]")
    events = [parse_event(subject.decode(), document) for subject, document in zip(fields[::2], documents, strict=True)]
    return [event for event in events if event is not None]


def check_document(document: Any) -> None:
    """Raise ValueError if this is no object or a member is not of its type: other programs may write to Valkey."""
    if not isinstance(document, dict):
        raise ValueError(f"not an object: {document!r:.100}")
    for name, value in document.items():
        if name in _NUMBERS:
            if type(value) is not int or not 0 <= value < _MAX_NUMBER:
                raise ValueError(f"{name} is not a number: {value!r:.100}")
        elif name in _TEXTS and type(value) is not str:
            raise ValueError(f"{name} is not text: {value!r:.100}")


def parse_event(subject: str, document: Mapping[str, Any]) -> Event | None:
    """Parse one event; None if it is of a kind or status that only a later version writes.

    Raises ValueError, KeyError or TypeError if it is malformed.
    """
    kind = _KINDS.get(document["event"])
    if kind is None:
        return None
    parse = _OTHERS.get(kind)
    return parse(subject, document) if parse is not None else _command_changed(kind, subject, document)


def _output_arrived(command_id: str, document: Mapping[str, Any]) -> Event:
    return OutputArrived(command_id, document["agent_id"], document["end_offset"])


def _agent_changed(agent_id: str, document: Mapping[str, Any]) -> Event:
    return AgentChanged(agent_id, document["epoch"], document["revision"], document["connected"] is True)


def _command_ready(command_id: str, document: Mapping[str, Any]) -> Event:
    return CommandReady(command_id, document["agent_id"], document["type"])


def _late_report(command_id: str, document: Mapping[str, Any]) -> LateReport:
    return LateReport(command_id, document["agent_id"], CommandStatus(document["reported"]))


def _stops_changed(stop_id: str, document: Mapping[str, Any]) -> Event:
    return StopsChanged(stop_id)


_OTHERS: Final = {
    EventKind.OUTPUT: _output_arrived,
    EventKind.AGENT: _agent_changed,
    EventKind.READY: _command_ready,
    EventKind.LATE: _late_report,
    EventKind.STOPS: _stops_changed,
}


def _command_changed(kind: EventKind, command_id: str, document: Mapping[str, Any]) -> CommandChanged | None:
    status = _STATUSES.get(document["status"])
    if status is None:
        return None
    agent_id, revision, attempt = document["agent_id"], document["revision"], document["attempt"]
    reason = Reason(document["code"], document["message"]) if "code" in document else NO_REASON
    if kind is EventKind.QUEUED or kind is EventKind.FINISHED:
        whole = _whole(command_id, status, reason, document)
        return CommandChanged(kind, command_id, agent_id, revision, status, attempt, reason, whole)
    receipts = {name: value for name, value in document.items() if name in _RECEIPTS}
    changes: dict[str, Any] = {"reason": reason} if "code" in document else {}
    if "cancel_ms" in document:
        changes["cancel_ms"] = document["cancel_ms"]
        changes["cancel_stage"] = CANCEL_STAGES.get(document.get("cancel_stage", ""))
    return CommandChanged(kind, command_id, agent_id, revision, status, attempt, reason, None, receipts, changes)


def _whole(command_id: str, status: CommandStatus, reason: Reason, document: Mapping[str, Any]) -> CommandState:
    get = document.get
    return CommandState(
        command_id,
        document["agent_id"],
        document["type"],
        document["priority"],
        status,
        document["attempt"],
        Receipts(
            document["queued_ms"],
            get("assigned_ms", 0),
            get("sent_ms", 0),
            get("acknowledged_ms", 0),
            get("started_ms", 0),
            get("finished_ms", 0),
        ),
        get("cancel_ms", 0),
        reason,
        get("params_summary", ""),
        document["revision"],
        cancel_stage=CANCEL_STAGES.get(get("cancel_stage", "")),
        requested_by=requester_of(get("requested_by", "")),
    )
