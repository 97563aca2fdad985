"""The one JSON form of each value."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.errors import InvalidArgument, NotFound
from distributor.model.agent import AgentInfo, AgentPresence
from distributor.model.command import Command, CommandResult, CommandState, OfflinePolicy, Reason, Receipts
from distributor.model.lifecycle import CommandStatus
from distributor.model.requester import Requester
from distributor.wire.documents import (
    agent_document,
    command_document,
    error_document,
    milliseconds_of,
    result_document,
    seconds_of,
    state_document,
    time_text,
)

AT, AT_TEXT = 1_772_366_400_125, "2026-03-01T12:00:00.125Z"
STATE = CommandState("c1", "a1", "EXEC", 50, CommandStatus.QUEUED, 0, Receipts(AT))


def test_unset_fields_are_there_and_null() -> None:
    receipts = {"assignTime": None, "sendTime": None, "acknowledgeTime": None, "startTime": None, "finishTime": None}
    assert state_document(STATE) == {
        "commandId": "c1",
        "agentId": "a1",
        "type": "EXEC",
        "paramsSummary": "",
        "priority": 50,
        "status": "queued",
        "revision": 1,
        "attempt": 0,
        "reason": None,
        "receipts": {"queueTime": AT_TEXT, **receipts},
        "cancelTime": None,
        "cancelStage": None,
        "agentKnown": None,
        "agentAwaySince": None,
        "outputBytes": None,
        "requestedBy": None,
    }


def test_who_asked_is_named_with_the_user_for_whom() -> None:
    bridge = Requester("service", "bridge", "alice", "10.0.0.7")
    told = {"kind": "service", "subject": "bridge", "onBehalfOf": "alice", "address": "10.0.0.7"}
    assert state_document(STATE._replace(requested_by=bridge))["requestedBy"] == told
    alone = {"kind": "user", "subject": "bob", "onBehalfOf": None, "address": None}
    assert state_document(STATE._replace(requested_by=Requester("user", "bob")))["requestedBy"] == alone


def test_a_command_has_what_was_requested() -> None:
    state = STATE._replace(agent=AgentPresence(True, False, AT), output_bytes=0, reason=Reason("busy", "no room"))
    document = command_document(Command(state, {"n": 1}, 1_500, 60_000, OfflinePolicy.FAIL, 2))
    assert (document["agentKnown"], document["agentAwaySince"], document["outputBytes"]) == (True, AT_TEXT, 0)
    assert document["reason"] == {"code": "busy", "message": "no room"}
    requested = {name: document[name] for name in list(document)[-14:]}
    assert requested == {
        "params": {"n": 1},
        "timeLimitSeconds": 1.5,
        "idleLimitSeconds": None,
        "queueTtlSeconds": 60,
        "offline": "fail",
        "maxRuns": 2,
        "maxRunsByReason": {},
        "retryOf": None,
        "slots": 1,
        "progressTime": None,
        "attempts": [],
        "secretParams": [],
        "signedBy": None,
        "lateResult": None,
    }
    limited = Command(state, {}, 1_500, 60_000, OfflinePolicy.FAIL, 2, idle_limit_ms=250)
    assert command_document(limited)["idleLimitSeconds"] == 0.25
    assert command_document(limited._replace(retry_of="c0"))["retryOf"] == "c0"
    silent = limited._replace(state=state._replace(progress_ms=AT))
    assert command_document(silent)["progressTime"] == AT_TEXT
    late = CommandResult("c1", "a1", "EXEC", CommandStatus.COMPLETED, 1, Reason(), 0, None, 3, 0, AT)
    assert command_document(limited._replace(late_result=late))["lateResult"] == result_document(late)


def test_a_result() -> None:
    result = CommandResult("c1", "a1", "EXEC", CommandStatus.TIMEOUT, 1, Reason(), None, None, 3, 1, AT)
    assert result_document(result) == {
        "commandId": "c1",
        "agentId": "a1",
        "type": "EXEC",
        "status": "timeout",
        "attempt": 1,
        "reason": None,
        "exitCode": None,
        "data": None,
        "outputBytes": 3,
        "outputDroppedBytes": 1,
        "finishTime": AT_TEXT,
        "attempts": [],
    }


def test_an_agent() -> None:
    agent = AgentInfo("a1", 7, True, 4, 1, 2, ("PING",), {"zone": "x"}, "1.0", AT, AT, 0, 3)
    ill = agent._replace(
        slots_used=3,
        journal_id="j1",
        problems=(("journal_full", "no room"),),
        handler_lag_ms=1_200,
        draining=False,
        degraded=True,
    )
    assert agent_document(ill) == {
        "agentId": "a1",
        "status": "degraded",
        "epoch": 7,
        "revision": 3,
        "capacity": 4,
        "running": 1,
        "slotsUsed": 3,
        "queued": 2,
        "types": ["PING"],
        "labels": {"zone": "x"},
        "connectTime": AT_TEXT,
        "lastSeenTime": AT_TEXT,
        "awaySince": None,
        "agentVersion": "1.0",
        "handlerLagSeconds": 1.2,
        "problems": [{"code": "journal_full", "message": "no room"}],
        "journalId": "j1",
    }


def test_an_error() -> None:
    assert error_document(NotFound("there is none", reason="UNKNOWN_COMMAND")) == {
        "code": "NOT_FOUND",
        "reason": "UNKNOWN_COMMAND",
        "field": None,
        "message": "there is none",
    }
    assert error_document(InvalidArgument("too large", field="command.params"))["field"] == "command.params"


@given(st.integers(0, 253_402_300_799_999))
def test_times_come_back_to_the_millisecond(ms: int) -> None:
    text = time_text(ms)
    assert (len(text), milliseconds_of(text)) == (24, ms)


def test_a_time_without_a_zone_is_none() -> None:
    with pytest.raises(ValueError, match="time zone"):
        milliseconds_of("2026-03-01T12:00:00.125")


@pytest.mark.parametrize(("ms", "text"), [(2_592_000_000, "2592000"), (1, "0.001"), (86_400_001, "86400.001")])
def test_durations_are_exact_seconds(ms: int, text: str) -> None:
    assert json.dumps(seconds_of(ms)) == text
