from __future__ import annotations

from collections.abc import Sequence

import pytest

from distributor.bridge import audit_notes
from distributor.bridge.audit_notes import AuditNotes
from distributor.errors import (
    DistributorError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from distributor.identity.caller import Caller, CallerKind
from distributor.model.dashboard_event import MAX_EVENTS, DashboardEvent, DashboardEventKind

READ = DashboardEventKind.RESULT_READ
ALICE = Caller(CallerKind.USER, "alice", address="192.0.2.9", token_ids=("t-1",))
BOB = Caller(CallerKind.USER, "bob", address="not an address")


class Server:
    """Records reports, or fails with the first error of `errors`."""

    def __init__(self, *errors: DistributorError) -> None:
        self.errors = list(errors)
        self.reports: list[tuple[list[DashboardEvent], int]] = []
        self.now = 0.0

    async def __call__(self, events: Sequence[DashboardEvent], lost: int) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.reports.append((list(events), lost))

    def notes(self) -> AuditNotes:
        return AuditNotes(self, lambda: self.now)

    @property
    def events(self) -> list[DashboardEvent]:
        return [event for events, _ in self.reports for event in events]


async def test_what_one_user_reads_together_is_one_event() -> None:
    server = Server()
    notes = server.notes()
    for command_id in ("a", "b"):
        notes.read(READ, ALICE, command_id)
    notes.read(READ, BOB, "c")
    notes.read(DashboardEventKind.OUTPUT_READ, ALICE, "a")
    server.now = 1.5
    await notes.run_once()
    assert server.reports == [
        (
            [
                DashboardEvent(READ, "alice", "192.0.2.9", ("a", "b"), 2, age_ms=1_500),
                DashboardEvent(READ, "bob", "", ("c",), 1, age_ms=1_500),
                DashboardEvent(DashboardEventKind.OUTPUT_READ, "alice", "192.0.2.9", ("a",), 1, age_ms=1_500),
            ],
            0,
        )
    ]
    await notes.run_once()
    assert len(server.reports) == 1, "nothing is reported twice"


async def test_every_id_is_reported_while_there_is_room() -> None:
    server = Server()
    notes = server.notes()
    ids = [str(number) for number in range(20 * MAX_EVENTS + 50)]
    for command_id in ids:
        notes.read(READ, ALICE, command_id)
    await notes.run_once()
    assert [one for event in server.events for one in event.command_ids] == ids
    assert all(len(events) <= MAX_EVENTS for events, _ in server.reports)


async def test_who_connects_and_leaves() -> None:
    server = Server()
    notes = server.notes()
    notes.connected(ALICE, "dashboard:connect")
    notes.disconnected(ALICE, "CLOSED_1008")
    await notes.run_once()
    assert server.events == [
        DashboardEvent(DashboardEventKind.CONNECTED, "alice", "192.0.2.9", method="dashboard:connect", token_id="t-1"),
        DashboardEvent(DashboardEventKind.DISCONNECTED, "alice", "192.0.2.9", reason="CLOSED_1008"),
    ]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Unauthenticated("x", reason="TOKEN_EXPIRED"), DashboardEventKind.CALLER_REFUSED),
        (PermissionDenied("x", reason="ROLE_MISSING"), DashboardEventKind.PERMISSION_DENIED),
        (ResourceExhausted("x", reason="TOO_MANY_REQUESTS"), DashboardEventKind.LIMIT_EXCEEDED),
        (InvalidArgument("x", field="token", reason="MISSING_FIELD"), DashboardEventKind.CALLER_REFUSED),
    ],
)
async def test_refusals(error: DistributorError, kind: DashboardEventKind) -> None:
    server = Server()
    notes = server.notes()
    notes.refused(error, "/api/agents", "alice", "192.0.2.9")
    notes.refused(NotFound("x"), "/api/agents")
    notes.refused(InvalidArgument("x", field="type"), "/api/agents")
    await notes.run_once()
    assert server.events == [DashboardEvent(kind, "alice", "192.0.2.9", reason=error.reason, method="/api/agents")]


async def test_what_cannot_be_reported_is_reported_later_and_in_order() -> None:
    server = Server(Unavailable("away"))
    notes = server.notes()
    notes.read(READ, ALICE, "a")
    with pytest.raises(Unavailable):
        await notes.run_once()
    notes.read(READ, ALICE, "b")
    await notes.run_once()
    assert [event.command_ids for event in server.events] == [("a",), ("b",)], "a report does not change any more"
    assert [lost for _, lost in server.reports] == [0, 0]


async def test_what_is_lost_meanwhile_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_notes, "MAX_WAITING", 2)
    server = Server(Unavailable("away"))
    notes = server.notes()
    notes.read(READ, ALICE, "a")
    with pytest.raises(Unavailable):
        await notes.run_once()
    for number in range(25):
        notes.read(READ, ALICE, str(number))
    notes.read(READ, BOB, "z")
    notes.disconnected(BOB, "")
    await notes.run_once()
    assert [(event.user, len(event.command_ids), event.count) for event in server.events] == [
        ("alice", 1, 1),
        ("alice", 20, 25),
    ]
    assert [lost for _, lost in server.reports] == [2, 0], "the number is reported once"


async def test_a_report_that_is_refused_does_not_hold_up_others() -> None:
    server = Server(InvalidArgument("what is this"))
    notes = server.notes()
    notes.read(READ, ALICE, "a")
    await notes.run_once()
    notes.read(READ, ALICE, "b")
    await notes.run_once()
    assert [(lost, [event.command_ids for event in events]) for events, lost in server.reports] == [
        (1, []),
        (0, [("b",)]),
    ]


async def test_the_end_waits_for_nothing_that_cannot_be_reported() -> None:
    notes = Server(Unavailable("away")).notes()
    notes.read(READ, ALICE, "a")
    await notes.close()


async def test_without_authentication_nothing_is_noted() -> None:
    notes = AuditNotes(None)
    notes.read(READ, ALICE, "a")
    await notes.run_once()
    assert not notes._waiting
