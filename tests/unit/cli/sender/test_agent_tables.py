"""Agents as people see them: status, problems, lag, and how long ago they were seen."""

from __future__ import annotations

import time

import pytest

from distributor.cli.sender import tables
from distributor.cli.sender.screen import Screen
from distributor.client import AgentInfo, Command, CommandState, CommandStatus, OfflinePolicy, Receipts

NOW_MS = 1_800_000_000_000


@pytest.fixture(autouse=True)
def at_a_known_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW_MS / 1000)


def agent(seen_ago_ms: int, **changes: object) -> AgentInfo:
    info = AgentInfo("a1", 1, True, 4, 1, 0, (), {}, "", NOW_MS - 60_000, NOW_MS - seen_ago_ms, 0)
    return info._replace(**changes)  # type: ignore[arg-type]


def test_the_table_shows_problems_and_lag_only_if_any_agent_has_some() -> None:
    healthy = agent(3_400)
    ill = agent(
        70_000, problems=(("journal_full", "no room"), ("handler_lag", "late")), degraded=True, handler_lag_ms=1_200
    )
    head, first = tables.agents_table(Screen("table"), [healthy]).splitlines()[:2]
    assert not {"PROBLEMS", "LAG"} & set(head.split())
    assert "online" in first
    assert "3 s ago" in first
    head, first, second = tables.agents_table(Screen("table"), [healthy, ill]).splitlines()[:3]
    assert {"PROBLEMS", "LAG"} <= set(head.split())
    for text in ("degraded", "journal_full handler_lag", "1.2 s", "1 min 10 s ago"):
        assert text in second


def test_the_text_of_one_agent_has_everything() -> None:
    text = tables.agent_text(
        agent(3_400, problems=(("journal_full", "no room"),), draining=True, handler_lag_ms=100, journal_id="j1")
    )
    for line in (
        "status        draining",
        "last seen     2027-01-15T07:59:56.600Z, 3 s ago",
        "handler lag   100 ms",
        "journal       j1",
        "problem       journal_full: no room",
    ):
        assert line in text.splitlines()


def test_commands_and_slots_are_shown_apart() -> None:
    full = agent(3_400, slots_used=4)
    head, row = tables.agents_table(Screen("table"), [full]).splitlines()[:2]
    shown = dict(zip(head.split(), row.split(), strict=False))
    assert (shown["STATUS"], shown["RUNNING"], shown["SLOTS"]) == ("busy", "1", "4/4")
    assert {"running       1", "slots used    4 of 4"} <= set(tables.agent_text(full).splitlines())


def test_an_agent_that_is_degraded_without_a_problem_says_why() -> None:
    late = agent(25_000, degraded=True)
    why = "problem       its last heartbeat is older than two heartbeat intervals"
    assert why in tables.agent_text(late).splitlines()
    assert "late heartbeat" in tables.agents_table(Screen("table"), [late])
    for other in (agent(3_000), agent(25_000, degraded=True, present=False), agent(25_000, draining=True)):
        assert "heartbeat" not in tables.agent_text(other) + tables.agents_table(Screen("table"), [other])


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, ""), (NOW_MS + 5_000, "0 s ago"), (NOW_MS - 59_999, "59 s ago"), (NOW_MS - 3_700_000, "1 h 1 min ago")],
)
def test_an_age(ms: int, text: str) -> None:
    assert tables.age_text(ms) == text


def test_a_running_command_shows_how_long_it_has_been_silent() -> None:
    state = CommandState("c1", "a1", "EXEC", 50, CommandStatus.ASSIGNED, 1, Receipts(1))
    command = Command(state, {}, 300_000, 86_400_000, OfflinePolicy.QUEUE, 1)
    assert "silent" not in tables.command_text(Screen("table"), command)
    silent = command._replace(state=state._replace(progress_ms=NOW_MS - 42_000))
    assert "runs " not in tables.command_text(Screen("table"), command)
    runs = command._replace(max_runs=3, max_runs_by_reason={"flaky": 2, "exit_nonzero": 5})
    line = "runs          up to 3, if failures are transient; up to 5 after exit_nonzero; up to 2 after flaky"
    assert line in tables.command_text(Screen("table"), runs).splitlines()
    assert "progress      silent for 42 s" in tables.command_text(Screen("table"), silent)
