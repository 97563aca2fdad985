"""What agents say, as it is brought to the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from distributor.dispatch.agent_reports import AgentReports
from distributor.dispatch.wakeups import Wakeups
from distributor.errors import Unavailable
from distributor.model.agent_report import (
    Answers,
    LeaseRef,
    OutputAnswer,
    Refusal,
    RefusalKind,
    Report,
    ReportedCompletion,
)
from distributor.model.agent_session import AgentSession
from distributor.model.command import Reason
from distributor.model.delivery import CancelProgress, Completion, CompletionOutcome, OutputPiece, Progress
from distributor.model.lifecycle import CommandStatus
from distributor.model.output_flow import OutputFlow
from distributor.model.protocol_violation import ProtocolViolation
from distributor.model.retry_policy import RetryPolicy
from tests.support.memory_stores import MemoryOutputLog, MemoryStore

C1 = LeaseRef("c1", "lease")


class World:
    """Reports over ports in memory, and a session that was given c1 at 100 ms and sent it at 101."""

    def __init__(self, max_result_bytes: int = 1_000) -> None:
        self.store, self.output, self.wakeups = MemoryStore(), MemoryOutputLog(), Wakeups()
        policy = RetryPolicy(3, 1_000, 60_000)
        self.reports = AgentReports(self.store, self.output, self.wakeups, policy, max_result_bytes)
        self.session = AgentSession("agent123", 1, 5, 0.0)
        self.session.claimed("c1", "lease", 1, 100.0)
        self.session.sent([("c1", "lease")], 101.0)

    async def say(self, now: float = 110.0, **report: Any) -> Answers:
        return await self.reports.handle(self.session, Report(**report), now)


def completion(held: LeaseRef = C1, **changes: Any) -> ReportedCompletion:
    fields: dict[str, Any] = {
        "status": CommandStatus.COMPLETED,
        "reason": Reason(),
        "exit_code": 0,
        "data_json": "",
        "output_bytes": 0,
        "transient": False,
    }
    return ReportedCompletion(held, **fields | changes)


@pytest.fixture
async def world() -> World:
    return World()


async def test_receipts_are_stored_once(world: World) -> None:
    await world.say(105.0, received=[C1])
    await world.reports.settle(world.session)
    await world.say(106.0, received=[C1], started=[C1])
    await world.say(107.0, started=[C1])
    await world.reports.settle(world.session)
    assert world.store.progressed == [
        Progress("c1", "agent123", "lease", 1, 5, None),
        Progress("c1", "agent123", "lease", 1, 5, 6),
    ]


async def test_the_start_of_a_given_up_attempt_is_stored(world: World) -> None:
    earlier = LeaseRef("c2", "earlier")
    world.session.gave_up(*earlier)
    await world.say(105.0, received=[earlier])
    await world.reports.settle(world.session)
    await world.say(106.0, started=[earlier])
    await world.reports.settle(world.session)
    assert world.store.progressed == [
        Progress("c2", "agent123", "earlier"),
        Progress("c2", "agent123", "earlier", past_start=True),
    ]


@pytest.mark.parametrize("status", [CommandStatus.COMPLETED, None], ids=["completed", "invalid"])
@pytest.mark.parametrize(
    ("flow", "sent", "said", "counted"),
    [
        (None, b"", 9, 0),
        (None, b"12345", 9, 5),
        (None, b"12345", 3, 3),
        (OutputFlow(2, 7), b"", 9, 7),
        (OutputFlow(2, 7), b"12345", 9, 5),
    ],
    ids=["none sent", "more than sent", "less than sent", "announced", "announced, then sent"],
)
async def test_a_result_counts_no_output_that_was_neither_sent_nor_announced(
    world: World, flow: OutputFlow | None, sent: bytes, said: int, counted: int, status: CommandStatus | None
) -> None:
    world.session.in_flight["c1"].output = flow
    if sent:
        await world.say(outputs=[OutputPiece("c1", "agent123", "lease", 1, 0, sent)])
    fault = Reason("invalid_result", "not JSON") if status is None else None
    await world.say(completions=[completion(status=status, output_bytes=said, fault=fault)])
    (stored,) = world.store.completions
    assert stored.output_bytes == counted


async def test_receipts_travel_with_a_result_that_comes_at_once(world: World) -> None:
    await world.say(105.0, received=[C1], started=[C1], completions=[completion()])
    assert world.store.progressed == []
    (stored,) = world.store.completions
    assert stored.progress == Progress("c1", "agent123", "lease", 1, 5, 5)


@pytest.mark.parametrize(
    "contradiction",
    [
        {"refusals": [Refusal(C1, RefusalKind.BUSY, Reason())]},
        {"refusals": [Refusal(C1, RefusalKind.DUPLICATE, Reason())]},
        {"not_found": [C1]},
        {"completions": [completion(LeaseRef("c1", "older"))]},
    ],
    ids=["refused for now", "refused for good", "no cancel was sent", "an earlier attempt has ended"],
)
async def test_a_start_is_stored_whatever_contradicts_it(world: World, contradiction: dict[str, Any]) -> None:
    await world.say(105.0, started=[C1])
    await world.say(106.0, **contradiction)
    await world.reports.settle(world.session)
    assert world.store.progressed == [Progress("c1", "agent123", "lease", 1, 5, 5)]


async def test_a_start_is_stored_before_the_result_of_an_earlier_attempt(world: World) -> None:
    """Whether a later attempt has started decides what becomes of that result."""
    calls: list[str] = []

    def noted(name: str, call: Any) -> Any:
        def noting(items: Any) -> Any:
            calls.append(name)
            return call(items)

        return noting

    for name in ("progress", "finish"):
        setattr(world.store, name, noted(name, getattr(world.store, name)))
    await world.say(105.0, started=[C1], completions=[completion(LeaseRef("c1", "older")), completion()])
    assert calls == ["progress", "finish"]
    assert world.store.progressed == [Progress("c1", "agent123", "lease", 1, 5, 5)]


async def test_the_end_of_an_earlier_attempt_takes_no_receipt_from_the_one_in_flight(world: World) -> None:
    earlier = LeaseRef("c1", "older")
    await world.say(105.0, received=[C1], started=[C1], completions=[completion(earlier)])
    await world.reports.settle(world.session)
    assert world.store.progressed == [Progress("c1", "agent123", "lease", 1, 5, 5)]
    (stored,) = world.store.completions
    assert stored.progress == Progress("c1", "agent123", "older", None, None, None)


async def test_words_about_another_lease_are_no_receipts(world: World) -> None:
    await world.say(received=[LeaseRef("c1", "older"), LeaseRef("c9", "lease")], started=[LeaseRef("c1", "older")])
    await world.reports.settle(world.session)
    assert world.store.progressed == []


async def test_a_result_makes_room_and_is_answered_with_what_became_of_it(world: World) -> None:
    world.session.claimed("c2", "lease", 1, 100.0)
    world.store.outcomes = {
        "c1": CompletionOutcome.STORED,
        "c2": CompletionOutcome.LATE,
        "c3": CompletionOutcome.FOREIGN,
    }
    answers = await world.say(
        completions=[completion(), completion(LeaseRef("c2", "lease")), completion(LeaseRef("c3", "lease"))]
    )
    assert [(one.lease.command_id, one.outcome, one.fault.code) for one in answers.results] == [
        ("c1", CompletionOutcome.STORED, ""),
        ("c2", CompletionOutcome.LATE, ""),
        ("c3", CompletionOutcome.FOREIGN, "foreign_command"),
    ]
    assert world.session.in_flight == {}


async def test_room_is_filled_from_what_waits(world: World) -> None:
    await world.say(completions=[completion()])
    assert world.wakeups.take() == set()
    world.session.more_waiting = True
    await world.say()
    assert world.wakeups.take() == {"agent123"}


@pytest.mark.parametrize(
    ("changes", "code", "part"),
    [
        ({"status": CommandStatus.ASSIGNED}, "invalid_result", "non-terminal status"),
        ({"status": None}, "invalid_result", "non-terminal status"),
        ({"data_json": "x" * 1_001}, "result_too_large", "1,001 bytes, the limit is 1,000"),
        ({"output_bytes": -1}, "invalid_result", "output_bytes"),
        ({"fault": Reason("invalid_result", "as a message")}, "invalid_result", "as a message"),
    ],
)
async def test_a_result_that_cannot_be_kept_fails_its_command(
    world: World, changes: dict[str, Any], code: str, part: str
) -> None:
    answers = await world.say(completions=[completion(**changes)])
    (stored,) = world.store.completions
    assert (stored.status, stored.reason.code, stored.data_json, stored.exit_code) == (
        CommandStatus.FAILED,
        code,
        "",
        None,
    )
    assert part in stored.reason.message
    assert answers.results[0].fault == stored.reason


async def test_a_large_result_is_measured_in_bytes(world: World) -> None:
    answers = await world.say(completions=[completion(data_json='"' + "é" * 600 + '"')])
    assert answers.results[0].fault.code == "result_too_large"


@pytest.mark.parametrize(
    ("status", "transient", "again"),
    [
        (CommandStatus.FAILED, True, True),
        (CommandStatus.FAILED, False, False),
        (CommandStatus.COMPLETED, True, False),
        (CommandStatus.TIMEOUT, True, False),
    ],
)
async def test_only_a_transient_failure_is_worth_another_run(
    world: World, status: CommandStatus, transient: bool, again: bool
) -> None:
    await world.say(completions=[completion(status=status, transient=transient)])
    delay_ms = world.store.completions[0].rerun_delay_ms
    assert (delay_ms is not None) == again
    assert delay_ms is None or 0 < delay_ms < 1_000


@pytest.mark.parametrize(("attempt", "bound_ms"), [(1, 1_000), (2, 2_000), (3, 4_000), (10, 60_000)])
async def test_the_delay_before_another_run_doubles_and_is_drawn_from_all_of_it(attempt: int, bound_ms: int) -> None:
    delays = []
    for _ in range(200):
        world = World()
        world.session.in_flight["c1"].attempt = attempt
        await world.say(completions=[completion(status=CommandStatus.FAILED, transient=True)])
        delays.append(world.store.completions[0].rerun_delay_ms or 0)
    assert 0 < min(delays) < bound_ms / 5
    assert bound_ms * 4 / 5 < max(delays) < bound_ms


async def test_a_transient_failure_with_survivors_does_not_run_again_beside_them(world: World) -> None:
    await world.say(
        completions=[completion(status=CommandStatus.FAILED, transient=True, survivors="17 (sh)")],
    )
    (stored,) = world.store.completions
    assert (stored.status, stored.rerun_delay_ms, stored.survived) == (CommandStatus.FAILED, None, True)


async def test_answers_to_no_cancel_reach_no_store(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Sequence[CancelProgress]] = []

    async def cancel_stages(items: Sequence[CancelProgress]) -> list[bool]:
        calls.append(items)
        return [True] * len(items)

    monkeypatch.setattr(world.store, "cancel_stages", cancel_stages)
    await world.say(stopping=[C1], survivors=[(C1, "17 (sh)")])
    assert calls == []
    world.session.cancelling("c1", "enough")
    await world.say(stopping=[C1])
    assert [len(items) for items in calls] == [1]


async def test_another_run_never_follows_at_once(world: World) -> None:
    """However small the delay drawn: the agent must hear that this run is stored before it hears of the next."""
    reports = AgentReports(world.store, world.output, world.wakeups, RetryPolicy(3, 0, 0), 1_000)
    await reports.handle(
        world.session, Report(completions=[completion(status=CommandStatus.FAILED, transient=True)]), 1.0
    )
    assert world.store.completions[0].rerun_delay_ms == 1


@pytest.mark.parametrize("kind", [RefusalKind.BUSY, RefusalKind.STALE])
async def test_what_was_refused_for_now_is_released_after_a_delay(world: World, kind: RefusalKind) -> None:
    await world.say(refusals=[Refusal(C1, kind, Reason())])
    (release,) = world.store.released
    assert (release.command_id, release.lease_id, release.reason.code) == ("c1", "lease", kind.value)
    assert 0 <= release.delay_ms < 1_000
    assert world.session.in_flight == {}


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (RefusalKind.UNSUPPORTED, CommandStatus.FAILED),
        (RefusalKind.DUPLICATE, CommandStatus.FAILED),
        (RefusalKind.EXPIRED, CommandStatus.TIMEOUT),
    ],
)
async def test_what_was_refused_for_good_ends(world: World, kind: RefusalKind, status: CommandStatus) -> None:
    await world.say(refusals=[Refusal(C1, kind, Reason("", "so it is"))])
    (stored,) = world.store.completions
    assert (stored.status, stored.reason) == (status, Reason(kind.value, "so it is"))


async def test_a_cancel_that_met_nothing_ends_what_was_in_flight_only(world: World) -> None:
    world.session.cancelling("c1", "wrong paper")
    await world.say(not_found=[C1, LeaseRef("c9", "lease")])
    (stored,) = world.store.completions
    assert (stored.progress.command_id, stored.status) == ("c1", CommandStatus.CANCELLED)
    assert stored.reason == Reason("cancelled", "wrong paper")
    assert world.session.in_flight == {}


async def test_a_result_counts_before_a_cancel_that_met_nothing_in_the_same_message(world: World) -> None:
    world.session.cancelling("c1", "enough")
    answers = await world.say(completions=[completion()], not_found=[C1])
    assert [(one.progress.command_id, one.status) for one in world.store.completions] == [
        ("c1", CommandStatus.COMPLETED)
    ]
    assert [one.outcome for one in answers.results] == [CompletionOutcome.STORED]


async def test_nothing_is_waited_for_between_a_result_and_its_answer(world: World) -> None:
    """A command that is to be run again may be given out before anything else is stored."""
    calls: list[list[str]] = []
    finish = world.store.finish

    async def noting(completions: Sequence[Completion]) -> list[CompletionOutcome]:
        calls.append([one.progress.command_id for one in completions])
        return await finish(completions)

    world.store.finish = noting  # type: ignore[method-assign]
    world.session.claimed("c2", "lease", 1, 100.0)
    world.session.cancelling("c2", "enough")
    answers = await world.say(completions=[completion()], not_found=[LeaseRef("c2", "lease")])
    assert calls == [["c1", "c2"]]
    assert [one.lease.command_id for one in answers.results] == ["c1"]
    assert world.session.in_flight == {}


async def test_receipts_travel_with_a_result_that_follows_soon(world: World) -> None:
    await world.say(105.0, received=[C1], started=[C1])
    await world.say(106.0, completions=[completion()])
    await world.reports.settle(world.session)
    assert world.store.progressed == []
    (stored,) = world.store.completions
    assert stored.progress == Progress("c1", "agent123", "lease", 1, 5, 5)


async def test_receipts_travel_ahead_of_output_that_follows_soon(world: World) -> None:
    await world.say(105.0, received=[C1], started=[C1])
    await world.say(106.0, outputs=[OutputPiece("c1", "agent123", "lease", 1, 0, b"abc")])
    assert world.store.progressed == [Progress("c1", "agent123", "lease", 1, 5, 5)]


async def test_the_parts_of_a_message_are_stored_in_order(world: World) -> None:
    calls: list[str] = []

    def noted(name: str, call: Any) -> Any:
        def noting(*arguments: Any) -> Any:
            calls.append(name)
            return call(*arguments)

        return noting

    for port, name in ((world.store, "progress"), (world.store, "release"), (world.output, "append")):
        setattr(port, name, noted(name, getattr(port, name)))
    world.session.claimed("c2", "lease", 1, 100.0)
    await world.say(
        started=[C1],
        refusals=[Refusal(LeaseRef("c2", "lease"), RefusalKind.STALE, Reason())],
        outputs=[OutputPiece("c1", "agent123", "lease", 1, 0, b"abc")],
    )
    assert calls == ["release", "progress", "append"]


@pytest.mark.parametrize("lease_id", ["an earlier one", ""])
async def test_a_cancel_of_an_earlier_attempt_says_nothing_of_the_one_in_flight(world: World, lease_id: str) -> None:
    await world.say(not_found=[LeaseRef("c1", lease_id)])
    assert world.store.completions == []
    assert "c1" in world.session.in_flight


async def test_output_is_answered_with_the_latest_offset_that_is_safe(world: World) -> None:
    def piece(command_id: str, offset: int, data: bytes) -> OutputPiece:
        return OutputPiece(command_id, "agent123", "lease", 1, offset, data)

    world.output.gone = {"c2"}
    answers = await world.say(outputs=[piece("c1", 0, b"abc"), piece("c1", 3, b"de"), piece("c2", 7, b"x")])
    stored, (lease, offset, fault) = answers.outputs
    assert stored == OutputAnswer(C1, 5)
    assert (lease, offset, fault.code) == (LeaseRef("c2", "lease"), 0, "stale_lease")


async def test_output_counts_as_a_start(world: World) -> None:
    piece = OutputPiece("c1", "agent123", "lease", 1, 0, b"abc")
    await world.say(105.0, outputs=[piece, piece])
    assert world.store.progressed == [Progress("c1", "agent123", "lease", 1, 5, 5)]
    await world.say(107.0, started=[C1], outputs=[piece])
    assert len(world.store.progressed) == 1


async def test_output_after_a_gap_is_not_stored(world: World) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        await world.say(outputs=[OutputPiece("c1", "agent123", "lease", 1, 1, b"abc")])
    assert caught.value.field == "output.offset"
    assert world.output.pieces == []


async def test_dropped_output_leaves_no_gap_in_what_is_received(world: World) -> None:
    world.output.full = True
    await world.say(outputs=[OutputPiece("c1", "agent123", "lease", 1, 0, b"abc")])
    world.output.full = False
    answers = await world.say(outputs=[OutputPiece("c1", "agent123", "lease", 1, 3, b"de")])
    assert answers.outputs == [OutputAnswer(C1, 5)]


async def test_acknowledged_output_makes_room_in_the_window(world: World) -> None:
    data = b"x" * 65_536
    for place in range(8):
        await world.say(outputs=[OutputPiece("c1", "agent123", "lease", 1, place * len(data), data)])
    assert len(world.output.pieces) == 8
    with pytest.raises(ProtocolViolation, match="at most 262,144 unacknowledged bytes of a command, not 327,680"):
        await world.say(
            outputs=[OutputPiece("c1", "agent123", "lease", 1, place * len(data), data) for place in range(8, 13)]
        )
    assert len(world.output.pieces) == 8


@pytest.mark.parametrize("kind", RefusalKind)
@pytest.mark.parametrize("before", [True, False])
async def test_a_started_command_cannot_be_refused(world: World, kind: RefusalKind, before: bool) -> None:
    if before:
        await world.say(started=[C1])
    await world.say(started=[C1], refusals=[Refusal(C1, kind, Reason())])
    assert (world.store.released, world.store.completions) == ([], [])
    assert world.session.holds(*C1)


async def test_a_refusal_under_another_lease_is_not_stored(world: World) -> None:
    await world.say(refusals=[Refusal(LeaseRef("c1", "older"), kind, Reason()) for kind in RefusalKind])
    assert (world.store.released, world.store.completions) == ([], [])
    assert world.session.holds(*C1)
    assert world.session.credit == 4


async def test_a_cancel_that_was_not_sent_ends_nothing(world: World) -> None:
    await world.say(not_found=[C1])
    assert world.store.completions == []
    assert world.session.holds(*C1)


async def test_an_agent_that_is_busy_is_asked_again_when_it_says_so(world: World) -> None:
    await world.say(refusals=[Refusal(C1, RefusalKind.BUSY, Reason("stopping", ""))])
    (released,) = world.store.released
    assert not released.counts
    assert world.session.credit == 0
    world.session.heartbeat(1, credit=5, running=0, now=120.0)
    assert world.session.credit == 5


async def test_a_stale_refusal_is_no_delivery_and_nothing_is_claimed_before_a_later_heartbeat(world: World) -> None:
    world.session.heartbeat(1, credit=5, running=0, now=110.0)
    for command_id in ("c7", "c8"):
        world.session.claimed(command_id, "lease", 1, 110.0, after_heartbeat=1)
    await world.say(refusals=[Refusal(LeaseRef("c7", "lease"), RefusalKind.STALE, Reason())])
    (released,) = world.store.released
    assert not released.counts
    assert not world.session.fresh(120.0)
    world.session.heartbeat(2, credit=5, running=0, now=130.0)
    assert world.session.fresh(130.0)
    # Claimed before that heartbeat was answered, too: it says nothing about commands claimed since.
    await world.say(refusals=[Refusal(LeaseRef("c8", "lease"), RefusalKind.STALE, Reason())])
    assert world.session.fresh(130.0)


@pytest.mark.parametrize("kind", [RefusalKind.BUSY, RefusalKind.STALE])
async def test_refusals_again_and_again_do_not_make_the_wait_grow(world: World, kind: RefusalKind) -> None:
    waits = []
    for _ in range(30):
        world.session.claimed("c1", "lease", 30, 100.0)
        await world.say(refusals=[Refusal(C1, kind, Reason())])
        waits.append(world.store.released[-1].delay_ms)
    assert max(waits) < 1_000


async def test_words_about_an_earlier_attempt_leave_the_one_in_flight_alone(world: World) -> None:
    world.session.ended(*C1)
    world.session.claimed("c1", "lease-2", 2, 105.0)
    await world.say(completions=[completion(C1)], refusals=[Refusal(C1, RefusalKind.STALE, Reason())])
    assert world.session.attempt("c1") == 2
    assert "c1" in world.session.in_flight


async def test_a_full_store_costs_output_but_no_result(world: World) -> None:
    world.output.full = True
    answers = await world.say(
        outputs=[OutputPiece("c1", "agent123", "lease", 1, 0, b"abc")], completions=[completion(output_bytes=3)]
    )
    assert answers.outputs == [OutputAnswer(C1, 3)]
    (stored,) = world.store.completions
    assert (stored.status, stored.output_bytes) == (CommandStatus.COMPLETED, 3)


async def test_a_full_store_does_not_have_output_discarded_that_the_next_attempt_may_store(world: World) -> None:
    world.output.full = True
    answers = await world.say(outputs=[OutputPiece("c1", "agent123", "older", 1, 0, b"abc")])
    assert [(one.lease.lease_id, one.offset, one.fault.code) for one in answers.outputs] == [
        ("older", 0, "stale_lease")
    ]


async def test_a_full_store_is_logged_once_and_once_it_has_room_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    piece = OutputPiece("c1", "agent123", "lease", 1, 0, b"abc")
    for full in (True, True, False, False, True):
        world.output.full = full
        await world.say(outputs=[piece, piece])
    assert [line.getMessage() for line in caplog.records] == [
        "output is dropped error='Valkey has no memory left'",
        "output is stored again dropped_pieces=4",
        "output is dropped error='Valkey has no memory left'",
    ]


async def test_nothing_is_answered_while_valkey_is_away(world: World) -> None:
    world.store.away = True
    with pytest.raises(Unavailable):
        await world.say(completions=[completion()])


async def test_an_empty_report_costs_nothing(world: World) -> None:
    answers = await world.say()
    assert (answers.results, answers.outputs) == ([], [])
    assert (world.store.completions, world.store.progressed, world.store.released) == ([], [], [])
