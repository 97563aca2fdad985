"""Text for people."""

from __future__ import annotations

import pytest

from distributor.cli.one_line import printable
from distributor.cli.sender.screen import Screen
from distributor.cli.sender.tables import (
    agent_absence,
    requester_text,
    short_time,
    span_text,
    states_table,
    timeline,
)
from distributor.client import AgentPresence, CommandState, CommandStatus
from distributor.model.command import Receipts
from distributor.model.requester import Requester


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (1_000, "1.0 s"),
        (59_940, "59.9 s"),
        (60_000, "1 min 0 s"),
        (3_599_999, "1 h 0 min"),
        (90_061_000, "1 d 1 h"),
    ],
)
def test_spans(ms: int, text: str) -> None:
    assert span_text(ms) == text


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        (0, "12:00:00Z"),
        (43_199_999, "12:00:00Z"),
        (43_200_000, "01-31 12:00Z"),
        (-5_000, "12:00:00Z"),
        (31_536_000_000, "2026-01-31"),
    ],
)
def test_short_times_have_their_zone_and_their_day_where_it_is_another(ago: int, text: str) -> None:
    at = 1_769_860_800_000

    assert short_time(at, at + ago) == text
    assert short_time(0, at) == ""


def test_a_timeline_leaves_out_what_was_not_passed() -> None:
    receipts = Receipts(queued_ms=1_000, assigned_ms=1_002, finished_ms=5_002)

    assert timeline(receipts) == (
        "  queued        1970-01-01T00:00:01.000Z\n"
        "  assigned      1970-01-01T00:00:01.002Z  +2 ms\n"
        "  finished      1970-01-01T00:00:05.002Z  +4.0 s"
    )


def test_control_characters_are_shown_not_obeyed() -> None:
    assert printable("a\x1b]0;title\x07é\u202e") == "a\\x1b]0;title\\x07é\\u202e"


def test_a_list_says_since_when_the_agent_of_a_running_command_is_away() -> None:
    running = CommandState("c1", "a1", "T", 50, CommandStatus.ASSIGNED, 1, Receipts(queued_ms=1))
    away = running._replace(command_id="c2", agent=AgentPresence(True, False, 1_000))

    head, first, second = states_table(Screen("table"), [running, away]).splitlines()

    assert "AGENT AWAY SINCE" in head
    assert "1970-01-01T00:00:01.000Z" not in first
    assert "assigned  1970-01-01T00:00:01.000Z" in second
    assert "AWAY" not in states_table(Screen("table"), [running])


def test_a_command_that_runs_says_where_its_agent_is() -> None:
    state = CommandState("c1", "a1", "T", 50, CommandStatus.ASSIGNED, 1, Receipts())
    assert agent_absence(state._replace(agent=AgentPresence(True, True, 0))) == ""
    assert agent_absence(state._replace(agent=AgentPresence(True, False, 1_000))) == (
        "has been away since 1970-01-01T00:00:01.000Z; the command may still be running"
    )


@pytest.mark.parametrize(
    ("requester", "text"),
    [
        (None, ""),
        (Requester("user", "bob"), "user bob"),
        (Requester("service", "bridge", "alice", "10.0.0.7"), "user alice by service bridge, from 10.0.0.7"),
        (Requester("user", "bob\x1b[2J", "", "::1"), "user bob\\x1b[2J, from ::1"),
    ],
)
def test_who_queued_a_command(requester: Requester | None, text: str) -> None:
    assert requester_text(requester) == text


def test_a_list_says_who_queued_each_command() -> None:
    unknown = CommandState("c1", "a1", "T", 50, CommandStatus.QUEUED, 0, Receipts(queued_ms=1))
    bridged = unknown._replace(requested_by=Requester("service", "bridge", "alice", "10.0.0.7"))
    direct = unknown._replace(requested_by=Requester("user", "bob\x1b[2J"))

    head, *lines = states_table(Screen("table"), [unknown, bridged, direct]).splitlines()

    column = head.index("QUEUED BY")
    assert [line[column:].split("  ")[0] for line in lines] == ["", "alice", "bob\\x1b[2J"]
    assert "QUEUED BY" not in states_table(Screen("table"), [unknown])
