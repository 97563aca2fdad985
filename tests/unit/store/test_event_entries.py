from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.model.command import CommandState, Reason, Receipts
from distributor.model.event import AgentChanged, CommandChanged, CommandReady, EventKind, OutputArrived, merged
from distributor.model.lifecycle import CommandStatus
from distributor.store.event_entries import EventEntries, own_events
from tests.support.own_logs import own_logs

QUEUED: dict[str, Any] = {
    "event": "queued",
    "revision": 1,
    "agent_id": "agent123",
    "status": "queued",
    "attempt": 0,
    "type": "PRINT",
    "priority": 50,
    "queued_ms": 17,
    "params_summary": "a\tb",
}
ASSIGNED: dict[str, Any] = {
    "event": "assigned",
    "revision": 2,
    "agent_id": "agent123",
    "status": "assigned",
    "attempt": 1,
    "assigned_ms": 18,
}
AGENT: dict[str, Any] = {"event": "agent", "agent_id": "a", "epoch": 7, "revision": 2, "connected": False}
OUTPUT: dict[str, Any] = {"event": "output", "agent_id": "agent123", "end_offset": 42}
READY: dict[str, Any] = {**QUEUED, "event": "ready"}


def encoded(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()


def without(document: dict[str, Any], name: str) -> bytes:
    return encoded({one: value for one, value in document.items() if one != name})


def events(*documents: dict[str, Any]) -> list[Any]:
    """The events of one entry, all about c1."""
    pairs = [part for document in documents for part in (b"c1", encoded(document))]
    return list(EventEntries().batch(b"1-0", [b"origin", b"r1", *pairs]).events)


MALFORMED = [
    b"",
    b"garbage",
    b"[]",
    b"17",
    b"{}",
    b'{"event": ["queued"]}',
    b"[" * 100_000,
    b'{"event": "assigned", "revision": ' + b"9" * 5_000 + b"}",
    b"\xff\xfe",
    *(without(QUEUED, name) for name in QUEUED if name not in ("params_summary", "event")),
    *(without(ASSIGNED, name) for name in ("revision", "agent_id", "status", "attempt")),
    *(without(OUTPUT, name) for name in ("agent_id", "end_offset")),
    *(without(AGENT, name) for name in ("epoch", "revision", "connected")),
    *(encoded({**ASSIGNED, name: value}) for name in ("revision", "assigned_ms") for value in ("1", 1.5, -1)),
    *(encoded({**ASSIGNED, "revision": value}) for value in (True, None, 2**63, [1])),
    *(encoded({**QUEUED, name: 7}) for name in ("agent_id", "type", "params_summary", "status")),
    encoded({**ASSIGNED, "code": "busy", "message": 7}),
]


@pytest.mark.parametrize("document", MALFORMED, ids=lambda document: document[:60].decode(errors="replace"))
def test_a_malformed_event_is_left_out_and_the_others_stay(document: bytes) -> None:
    entries = EventEntries()
    with own_logs() as logs:
        batches = [
            entries.batch(b"%d-0" % n, [b"origin", b"r1", b"c1", encoded(ASSIGNED), b"c2", document]) for n in (1, 2)
        ]
        assert logs == [], "nothing is parsed before somebody looks"
        found = [(one.position, one.origin, len(one.events), len(one.events)) for one in batches]
    assert found == [("1-0", "r1", 1, 1), ("2-0", "r1", 1, 1)]
    (line,) = logs
    assert (line["log_level"], line["first"]) == ("warning", "1-0")


def test_what_a_later_version_writes_is_ignored_silently() -> None:
    with own_logs() as logs:
        found = events(
            {**ASSIGNED, "event": "paused"},
            {**ASSIGNED, "status": "paused"},
            {**AGENT, "mood": "sunny"},
            {**ASSIGNED, "mood": {"of": ["agents"]}},
        )
    assert found == [AgentChanged("c1", 7, 2, connected=False), *events(ASSIGNED)]
    assert logs == []


def test_a_reply_of_a_function_is_parsed_alike() -> None:
    documents = (QUEUED, ASSIGNED, OUTPUT, READY, AGENT, {**ASSIGNED, "code": "busy", "message": "later"})
    fields = [part for document in documents for part in (b"c1", encoded(document))]
    assert own_events(fields) == events(*documents)


def test_an_entry_that_is_not_ours_has_no_events() -> None:
    for fields in ([b"temperature", b"21"], []):
        with own_logs() as logs:
            batch = EventEntries().batch(b"1-0", fields)
        assert (batch.position, list(batch.events), len(logs)) == ("1-0", [], 1)


def test_each_kind() -> None:
    whole = CommandState(
        "c1", "agent123", "PRINT", 50, CommandStatus.QUEUED, 0, Receipts(17), params_summary="a\tb", revision=1
    )
    assert events(QUEUED, ASSIGNED, OUTPUT, READY) == [
        CommandChanged(EventKind.QUEUED, "c1", "agent123", 1, CommandStatus.QUEUED, 0, Reason(), whole),
        CommandChanged(
            EventKind.ASSIGNED,
            "c1",
            "agent123",
            2,
            CommandStatus.ASSIGNED,
            1,
            Reason(),
            None,
            {"assigned_ms": 18},
        ),
        OutputArrived("c1", "agent123", 42),
        CommandReady("c1", "agent123", "PRINT"),
    ]


def test_a_reason_is_given_or_cleared_only_where_it_changed() -> None:
    given_, cleared, same = events(
        {**ASSIGNED, "code": "busy", "message": "later"}, {**ASSIGNED, "code": "", "message": ""}, ASSIGNED
    )
    before = CommandState("c1", "agent123", "PRINT", 50, CommandStatus.QUEUED, 0, Receipts(17), reason=Reason("x", "y"))
    found = [merged(before, change) for change in (given_, cleared, same)]
    assert [state and state.reason for state in found] == [Reason("busy", "later"), Reason(), Reason("x", "y")]


@given(st.dictionaries(st.sampled_from([*QUEUED, *ASSIGNED, *AGENT, "x"]), st.none() | st.integers() | st.text()))
def test_whatever_it_holds_it_is_read_or_left_out(document: dict[str, Any]) -> None:
    assert len(events(document)) <= 1
