from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.model.agent import AgentInfo, AgentPresence
from distributor.model.command import CommandResult, CommandState, Reason, Receipts
from distributor.model.delivery import Completion, Progress
from distributor.model.json_value import JsonValue
from distributor.model.lifecycle import CommandStatus
from distributor.model.requester import Requester
from distributor.store import keys, rows

RECEIPT = st.integers(0, 2**43)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
STATES = st.builds(
    CommandState,
    command_id=st.uuids().map(str),
    agent_id=st.from_regex(r"[A-Za-z0-9._-]{1,20}", fullmatch=True),
    type=st.from_regex(r"[A-Z]{1,10}", fullmatch=True),
    priority=st.integers(0, 100),
    status=st.sampled_from(CommandStatus),
    attempt=st.integers(0, 1000),
    receipts=st.builds(Receipts, *[RECEIPT] * 6),
    cancel_ms=RECEIPT,
    revision=st.integers(1, 1000),
    reason=st.builds(Reason, st.from_regex(r"[a-z_]{0,10}", fullmatch=True), TEXT),
    params_summary=st.text(st.characters(exclude_categories=["C", "Z"]), max_size=10),
    requested_by=st.none() | st.builds(Requester, *[st.text(st.characters(exclude_categories=["C"]), max_size=8)] * 4),
    agent=st.none(),
    output_bytes=st.none(),
    attempts=st.just(()),
    progress_ms=st.just(0),
)


def stored_row(state: CommandState) -> list[str]:
    """A state as the functions write it: in the order of keys.ROW, unset fields empty."""
    fields = {
        "agent_id": state.agent_id,
        "type": state.type,
        "priority": state.priority,
        "status": state.status,
        "attempt": state.attempt,
        **state.receipts._asdict(),
        "cancel_ms": state.cancel_ms,
        "revision": state.revision,
        "params_summary": state.params_summary,
        "code": state.reason.code,
        "message": state.reason.message,
        "cancel_stage": state.cancel_stage or "",
        "requested_by": rows.requester_text(state.requested_by),
    }
    return [str(fields[name] or "") if name.endswith("_ms") else str(fields[name]) for name in keys.ROW]


@given(STATES)
def test_a_state_comes_back_from_its_row(state: CommandState) -> None:
    row = stored_row(state)
    assert rows.command_state(state.command_id, row) == state
    assert rows.command_state(state.command_id, rows.text_row([text.encode() or None for text in row])) == state


@given(
    exit_code=st.none() | st.integers(-64, 255),
    data=st.none() | st.recursive(st.none() | st.booleans() | TEXT, lambda inner: st.lists(inner, max_size=3)),
    with_data=st.booleans(),
)
def test_what_only_the_agent_knows_comes_back_from_the_result(
    exit_code: int | None, data: JsonValue, with_data: bool
) -> None:
    completion = Completion(
        Progress("id", "agent", "lease"),
        CommandStatus.COMPLETED,
        exit_code=exit_code,
        data_json=json.dumps(data) if with_data else "",
    )
    text = (
        '{"commandId":"id","agentId":"agent","type":"PING","status":"completed","attempt":2,'
        f'"reason":null,{rows.result_members(completion)}'
        '"outputBytes":3,"outputDroppedBytes":1,"finishTime":"2026-03-01T12:00:00.125Z"}'
    )
    result = rows.command_result(text.encode())
    kept = data if with_data else None
    assert result == CommandResult(
        "id", "agent", "PING", CommandStatus.COMPLETED, 2, Reason(), exit_code, kept, 3, 1, 1_772_366_400_125
    )


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ((None, None, None), AgentPresence(False, False, 0)),
        ((b"1", b"1000", None), AgentPresence(True, True, 0)),
        ((b"1", b"971", None), AgentPresence(True, True, 0)),
        ((b"1", b"970", None), AgentPresence(True, False, 970)),
        ((b"0", b"1000", b"990"), AgentPresence(True, False, 990)),
        ((b"0", b"960", None), AgentPresence(True, False, 960)),
        ((b"1", None, None), AgentPresence(True, False, 0)),
    ],
)
def test_presence(row: rows.Row, expected: AgentPresence) -> None:
    assert rows.presence(row, now_ms=1_000, offline_after_ms=30) == expected


def test_an_agent_whose_session_says_little() -> None:
    """Fields that a server of another version did not write."""
    row = [b"3", *[None] * (len(rows.SESSION_FIELDS) - 1)]
    info = rows.agent_info("agent123", row, rows.AgentCounts(1, 4, 2), AgentPresence(True, False, 5))
    assert info == AgentInfo("agent123", 3, False, 0, 1, 2, (), {}, "", 0, 0, 5, slots_used=4)
    last = rows.agent_info(
        "agent123", [*row[:9], b"2", *row[10:]], rows.AgentCounts(1, 4, 2), AgentPresence(True, False, 5)
    )
    assert last == info._replace(revision=2)
    assert (
        rows.agent_info("agent123", [None] * len(row), rows.AgentCounts(0, 0, 0), AgentPresence(False, False, 0))
        is None
    )


@pytest.mark.parametrize(
    ("field", "age_ms", "code", "degraded"),
    [
        ("rival_ms", 299_999, "duplicate_identity", True),
        ("rival_ms", 300_000, "", False),
        ("flapping_ms", 299_999, "flapping", True),
        ("flapping_ms", 300_000, "", False),
        ("journal_replaced_ms", 86_399_999, "journal_replaced", False),
        ("journal_replaced_ms", 86_400_000, "", False),
    ],
)
def test_what_servers_noticed_is_shown_for_a_while(field: str, age_ms: int, code: str, degraded: bool) -> None:
    now_ms = 1_000_000_000
    fields = {"epoch": b"3", field: str(now_ms - age_ms).encode()}
    row = [fields.get(name) for name in rows.SESSION_FIELDS]
    info = rows.agent_info("agent123", row, rows.AgentCounts(0, 0, 0), AgentPresence(True, True, 0), now_ms)
    assert info is not None
    assert [problem for problem, _ in info.problems] == ([code] if code else [])
    assert info.degraded is degraded


def test_a_status_of_a_later_version_is_skipped() -> None:
    state = CommandState("c1", "a1", "EXEC", 50, CommandStatus.QUEUED, 0, Receipts(1))
    row = stored_row(state)
    assert rows.known_state("c1", row) == state
    row[keys.ROW.index("status")] = "paused"
    assert rows.known_state("c1", row) is None
