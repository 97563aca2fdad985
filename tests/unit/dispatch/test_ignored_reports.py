from __future__ import annotations

import logging

import pytest

from distributor.dispatch.ignored_reports import ignored, log_ignored, log_rejected
from distributor.model.agent_report import Answers, LeaseRef, Refusal, RefusalKind, Report, ResultAnswer
from distributor.model.agent_session import AgentSession
from distributor.model.command import Reason
from distributor.model.delivery import CompletionOutcome, OutputPiece

HELD = LeaseRef("c1", "lease")
OLD = LeaseRef("c1", "old")
UNKNOWN = LeaseRef("c2", "lease")
NO_LEASE = LeaseRef("c1", "")


@pytest.fixture
def session() -> AgentSession:
    session = AgentSession("agent123", 1, 5, 0.0)
    session.claimed("c1", "lease", 1, 0.0)
    return session


def output(ref: LeaseRef) -> OutputPiece:
    return OutputPiece(ref.command_id, "agent123", ref.lease_id, 1, 0, b"x")


def refusal(ref: LeaseRef) -> Refusal:
    return Refusal(ref, RefusalKind.BUSY, Reason())


def test_what_counts_is_not_ignored(session: AgentSession) -> None:
    session.cancelling("c1", "enough")
    report = Report([HELD], [], [refusal(HELD)], [output(HELD)], [], [HELD], [HELD])
    assert list(ignored(session, report)) == []
    assert list(ignored(session, Report(started=[HELD]))) == []


def test_a_refusal_of_what_was_started(session: AgentSession) -> None:
    assert list(ignored(session, Report(started=[HELD], refusals=[refusal(HELD)]))) == [
        ("refused", *HELD, "started before")
    ]
    session.started(*HELD, 1.0)
    assert list(ignored(session, Report(refusals=[refusal(HELD)]))) == [("refused", *HELD, "started before")]


def test_an_answer_to_no_cancel(session: AgentSession) -> None:
    assert (
        list(ignored(session, Report(not_found=[HELD], stopping=[HELD])))
        == [("cancel_reports", *HELD, "no cancel was sent")] * 2
    )


@pytest.mark.parametrize(
    ("ref", "why"),
    [(OLD, "another lease is in flight"), (UNKNOWN, "command not in flight"), (NO_LEASE, "no lease")],
)
@pytest.mark.parametrize(
    ("part", "of"),
    [
        ("received", lambda ref: Report(received=[ref])),
        ("started", lambda ref: Report(started=[ref])),
        ("refused", lambda ref: Report(refusals=[refusal(ref)])),
        ("output", lambda ref: Report(outputs=[output(ref)])),
        ("cancel_reports", lambda ref: Report(not_found=[ref])),
        ("cancel_reports", lambda ref: Report(stopping=[ref])),
    ],
)
def test_each_part_that_is_not_about_what_is_in_flight(
    session: AgentSession, part: str, of: object, ref: LeaseRef, why: str
) -> None:
    assert callable(of)
    assert list(ignored(session, of(ref))) == [(part, *ref, why)]


def test_what_was_said_before(session: AgentSession) -> None:
    assert list(ignored(session, Report([HELD, HELD], [HELD, HELD]))) == [
        ("received", *HELD, "said before"),
        ("started", *HELD, "said before"),
    ]
    session.received(*HELD, 1.0)
    assert list(ignored(session, Report([HELD], [HELD]))) == [("received", *HELD, "said before")]
    session.started(*HELD, 2.0)
    assert list(ignored(session, Report([], [HELD]))) == [("started", *HELD, "said before")]


def test_each_has_a_line_in_the_debug_log(session: AgentSession, caplog: pytest.LogCaptureFixture) -> None:
    answers = Answers(
        [
            ResultAnswer(LeaseRef("c1", "lease"), CompletionOutcome.STORED),
            ResultAnswer(LeaseRef("c2", "lease"), CompletionOutcome.STALE, Reason("stale_lease", "")),
            ResultAnswer(LeaseRef("c3", "lease"), CompletionOutcome.LATE),
            ResultAnswer(LeaseRef("c4", "lease"), CompletionOutcome.STORED, Reason("invalid_result", "")),
        ],
        [],
    )
    with caplog.at_level(logging.DEBUG):
        log_ignored(session, Report(started=[OLD]))
        log_rejected(session, answers)
    assert [line.getMessage() for line in caplog.records] == [
        "part of a message ignored agent_id=agent123 command_id=c1 lease_id=old part=started "
        "why='another lease is in flight'",
        "result not kept agent_id=agent123 command_id=c2 outcome=stale reason=stale_lease",
        "result not kept agent_id=agent123 command_id=c3 outcome=late reason=",
        "result not kept agent_id=agent123 command_id=c4 outcome=stored reason=invalid_result",
    ]


def test_nothing_is_looked_for_at_other_levels(session: AgentSession, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        log_ignored(session, Report(started=[OLD]))
    assert not caplog.records
