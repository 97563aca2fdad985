"""The checker of the campaign, on histories made by hand: it finds each kind of violation, and only that."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from tests.faults.campaign.checker import Broken, Rules, check
from tests.faults.campaign.complaints import REPAIRED, SIGNS
from tests.faults.campaign.history import Entry, Kind, digest
from tests.faults.campaign.ledger import Line, Mark, Work

WORK = Work(ticks=0, lines=2)
OUTPUT = WORK.output("c1")


class Story:
    """A history in the making: one second passes with each thing that happens."""

    def __init__(self) -> None:
        self.time = 0.0
        self.entries: list[Entry] = []
        self.lines: list[Line] = []

    def tell(self, kind: Kind, token: str = "c1", **details: Any) -> Story:
        self.time += 1
        self.entries.append(Entry(self.time, kind, token, details))
        return self

    def asked(self, token: str = "c1", agent: str = "a1", priority: int = 50, work: Work | None = WORK) -> Story:
        self.tell(Kind.ASKED, token, agent=agent, priority=priority, work=asdict(work) if work else None)
        return self.tell(Kind.ACKNOWLEDGED, token, command_id=f"id of {token}")

    def state(self, status: str, token: str = "c1", reason: str = "", attempt: int = 1, **changes: Any) -> Story:
        return self.tell(
            Kind.STATE,
            token,
            **{"status": status, "reason": reason, "attempt": attempt, "by": "w", "since": None} | changes,
        )

    def ran(self, *marks: Mark, token: str = "c1", pid: int = 7) -> Story:
        for mark in marks:
            self.time += 1
            self.lines.append(Line(mark, token, pid, self.time))
        return self

    def output(self, offset: int, data: bytes) -> Story:
        return self.tell(Kind.OUTPUT, reader="w", offset=offset, size=len(data), digest=digest(data))

    def whole(self, token: str = "c1") -> Story:
        """A command that went well."""
        return self.asked(token).ran(Mark.START, Mark.END, token=token).state("completed", token)

    def found(self, rules: Rules | None = None) -> set[Broken]:
        return {violation.broken for violation in check(self.entries, self.lines, rules or Rules())}


def test_a_good_history_breaks_nothing() -> None:
    story = Story().asked().ran(Mark.START, Mark.BEAT, Mark.END).output(0, OUTPUT[:5]).output(5, OUTPUT[5:])
    story.state("assigned").state("completed").tell(Kind.READER_ENDED, reader="w")
    story.tell(Kind.RESULT, result="one").tell(Kind.RESULT, result="one").state("completed", since=story.time)
    assert story.found() == set()


def test_an_acknowledged_command_that_does_not_end() -> None:
    assert Story().asked().ran(Mark.START, Mark.END).state("assigned").found() == {Broken.LOST}


def test_a_command_that_nobody_acknowledged_may_be_lost() -> None:
    story = Story().tell(Kind.ASKED, agent="a1", priority=50, work=asdict(WORK)).tell(Kind.UNANSWERED)
    assert story.found() == set()


def test_one_key_with_two_commands() -> None:
    assert Story().whole().tell(Kind.ACKNOWLEDGED, command_id="another").found() == {Broken.TWO_IDS}


@pytest.mark.parametrize("later", [("failed", "agent_lost"), ("completed", "other")])
def test_a_terminal_status_that_changes(later: tuple[str, str]) -> None:
    assert Story().whole().state(later[0], reason=later[1]).found() == {Broken.CHANGED}


def test_a_status_that_is_no_longer_terminal() -> None:
    story = Story().whole()
    assert story.state("assigned", since=story.time + 0.5).found() == {Broken.CHANGED}


def test_a_slow_read_may_show_an_earlier_state() -> None:
    story = Story().asked().ran(Mark.START, Mark.END)
    begun = story.time
    assert story.state("completed").state("assigned", since=begun).found() == set()


def test_a_result_that_changes() -> None:
    assert Story().whole().tell(Kind.RESULT, result="one").tell(Kind.RESULT, result="two").found() == {Broken.CHANGED}


def test_a_second_start() -> None:
    story = Story().asked().ran(Mark.START).ran(Mark.START, Mark.END, pid=8).state("completed")
    assert story.found() == {Broken.STARTED_TOO_OFTEN}
    assert story.found(Rules(permitted_starts=2)) == set()


RERUN = Work(ticks=0, lines=2, failures=1)


def test_a_second_start_after_a_failure_that_permits_it() -> None:
    story = Story().asked(work=RERUN).ran(Mark.START, Mark.FAILED).ran(Mark.START, Mark.END, pid=8)
    assert story.state("completed", attempt=2).found() == set()
    assert story.ran(Mark.START, pid=9).found() == {Broken.STARTED_TOO_OFTEN}


def test_a_second_start_before_the_first_run_has_failed() -> None:
    story = Story().asked(work=RERUN).ran(Mark.START).ran(Mark.START, Mark.END, pid=8).state("completed", attempt=2)
    assert story.found() == {Broken.STARTED_TOO_OFTEN}


def test_a_failure_that_permits_no_second_start() -> None:
    story = Story().asked().ran(Mark.START, Mark.FAILED).ran(Mark.START, Mark.END, pid=8).state("completed")
    assert story.found() == {Broken.STARTED_TOO_OFTEN}


def test_a_failure_that_is_not_followed_by_the_permitted_run() -> None:
    story = Story().asked(work=RERUN).ran(Mark.START, Mark.FAILED).state("failed", reason="exit_nonzero")
    assert story.found() == {Broken.FAILED_FOR_NOTHING}


def test_a_failure_after_a_cancel_permits_no_run() -> None:
    story = Story().asked(work=RERUN).tell(Kind.CANCEL).ran(Mark.START, Mark.FAILED)
    assert story.state("failed", reason="exit_nonzero").found() == set()


@pytest.mark.parametrize("later", [Mark.START, Mark.BEAT, Mark.END, Mark.STOPPED])
def test_a_program_that_goes_on_after_its_command_was_cancelled(later: Mark) -> None:
    story = Story().asked().tell(Kind.CANCEL).state("cancelled").ran(later)
    assert story.found() == {Broken.RAN_AFTER_CANCELLED}


def test_a_program_that_was_stopped_before_its_command_was_cancelled() -> None:
    assert Story().asked().ran(Mark.START).tell(Kind.CANCEL).ran(Mark.STOPPED).state("cancelled").found() == set()


def test_an_end_that_cannot_be_read() -> None:
    assert Story().whole().tell(Kind.UNREADABLE, error="there is no such command").found() == {Broken.UNREADABLE}


@pytest.mark.parametrize("marks", [(), (Mark.START,), (Mark.START, Mark.STOPPED)])
def test_a_completed_command_that_did_not_do_its_work(marks: tuple[Mark, ...]) -> None:
    assert Story().asked().ran(*marks).state("completed").found() == {Broken.UNTRUE_RESULT}


def test_a_command_that_runs_no_program_of_the_campaign_must_complete_too() -> None:
    assert Story().asked(work=None).state("completed").found() == set()
    assert Story().asked(work=None).state("failed", reason="unsupported").found() == {Broken.FAILED_FOR_NOTHING}
    assert Story().asked(work=None).state("assigned").found() == {Broken.LOST}


def test_a_refusal_without_cause() -> None:
    story = Story().tell(Kind.ASKED, agent="a1", priority=50, work=asdict(WORK))
    story.tell(Kind.REFUSED, code="RESOURCE_EXHAUSTED", error="the store is full")
    assert story.found() == {Broken.REFUSED_FOR_NOTHING}
    assert story.found(Rules(refusals=frozenset({"RESOURCE_EXHAUSTED"}))) == set()


@pytest.mark.parametrize("sign", SIGNS)
def test_a_complaint_in_a_log(sign: str) -> None:
    story = Story().whole().tell(Kind.COMPLAINT, "server0", sign=sign, text="...")
    assert story.found() == {Broken.COMPLAINED}
    assert story.found(Rules(repairs=True)) == (set() if sign == REPAIRED else {Broken.COMPLAINED})


@pytest.mark.parametrize("status", ["failed", "timeout", "cancelled"])
def test_a_failure_without_cause(status: str) -> None:
    assert Story().asked().state(status, reason="stale").found() == {Broken.FAILED_FOR_NOTHING}


def test_a_failure_that_the_fault_brings_about() -> None:
    assert Story().asked().state("failed", reason="stale").found(Rules(excused=frozenset({"stale"}))) == set()


@pytest.mark.parametrize(
    ("reason", "agent", "found"),
    [
        ("outcome_unknown", "a1", set()),
        ("stale", "a1", {Broken.FAILED_FOR_NOTHING}),
        ("outcome_unknown", "a2", {Broken.FAILED_FOR_NOTHING}),
    ],
)
def test_the_death_of_its_agent_excuses_an_unknown_outcome(reason: str, agent: str, found: set[Broken]) -> None:
    story = Story().asked().ran(Mark.START).tell(Kind.AGENT_DIED, agent).state("failed", reason=reason)
    assert story.found() == found


@pytest.mark.parametrize(
    ("attempt", "read", "found"), [(0, True, {Broken.FAILED_FOR_NOTHING}), (1, True, set()), (0, False, set())]
)
def test_the_death_of_its_agent_excuses_nothing_that_was_not_given_out(
    attempt: int, read: bool, found: set[Broken]
) -> None:
    story = Story().asked().tell(Kind.AGENT_DIED, "a1")
    story.state("queued", attempt=attempt, since=story.time if read else None)
    assert story.state("failed", reason="outcome_unknown").found() == found


def test_a_second_death_excuses_what_the_agent_may_have_had_by_then() -> None:
    story = Story().asked().tell(Kind.AGENT_DIED, "a1")
    story.state("queued", attempt=0, since=story.time).ran(Mark.START).tell(Kind.AGENT_DIED, "a1")
    assert story.state("failed", reason="outcome_unknown").found() == set()


def test_the_death_of_its_agent_afterwards_excuses_nothing() -> None:
    story = Story().asked().state("failed", reason="outcome_unknown").tell(Kind.AGENT_DIED, "a1")
    assert story.found() == {Broken.FAILED_FOR_NOTHING}


def both_ran(story: Story, *order: str, attempt: int = 1) -> Story:
    for token in order:
        story.ran(Mark.START, Mark.END, token=token).state("completed", token, attempt=attempt)
    return story


def test_commands_that_start_out_of_order() -> None:
    assert both_ran(Story().asked("c1").asked("c2"), "c2", "c1").found() == {Broken.OUT_OF_ORDER}
    assert both_ran(Story().asked("c1").asked("c2"), "c1", "c2").found() == set()


def test_no_order_is_promised_between_agents_priorities_redeliveries_and_calls_at_the_same_time() -> None:
    assert both_ran(Story().asked("c1").asked("c2", agent="a2"), "c2", "c1").found() == set()
    assert both_ran(Story().asked("c1").asked("c2", priority=60), "c2", "c1").found() == set()
    assert both_ran(Story().asked("c1").asked("c2"), "c2", "c1", attempt=2).found() == set()
    together = Story()
    for kind, details in ((Kind.ASKED, {"agent": "a1", "priority": 50, "work": asdict(WORK)}), (Kind.ACKNOWLEDGED, {})):
        for token in ("c1", "c2"):
            together.tell(kind, token, **details, command_id=token)
    assert both_ran(together, "c2", "c1").found() == set()


def test_a_command_that_waited_too_long_for_its_start() -> None:
    story = Story().asked()
    story.time += 10
    story.ran(Mark.START, Mark.END).state("completed")
    assert story.found(Rules(most_wait_seconds=5)) == {Broken.WAITED}
    assert story.found(Rules(most_wait_seconds=15)) == set()


@pytest.mark.parametrize(
    "pieces",
    [
        [(0, OUTPUT[:5]), (6, OUTPUT[6:])],
        [(0, OUTPUT[:5]), (4, OUTPUT[4:])],
        [(0, OUTPUT[:5]), (0, OUTPUT[:5]), (5, OUTPUT[5:])],
        [(0, b"x" + OUTPUT[1:])],
        [(0, OUTPUT[:5])],
    ],
    ids=["gap", "overlap", "repeat", "altered", "too short"],
)
def test_wrong_output(pieces: list[tuple[int, bytes]]) -> None:
    story = Story().whole()
    for offset, data in pieces:
        story.output(offset, data)
    assert story.tell(Kind.READER_ENDED, reader="w").found() == {Broken.OUTPUT_WRONG}


def test_a_marked_gap_is_no_lie_but_it_is_one_in_output_that_fits() -> None:
    story = Story().whole().output(0, OUTPUT[:5]).tell(Kind.GAP, reader="w", offset=5, end=8).output(8, OUTPUT[8:])
    story.tell(Kind.READER_ENDED, reader="w")
    assert story.found(Rules(whole_output=False)) == set()
    assert story.found() == {Broken.OUTPUT_WRONG}


def test_output_of_a_command_that_was_stopped_may_end_anywhere() -> None:
    story = Story().asked().ran(Mark.START).tell(Kind.CANCEL).ran(Mark.STOPPED).output(0, OUTPUT[:5])
    assert story.state("cancelled").tell(Kind.READER_ENDED, reader="w").found() == set()
