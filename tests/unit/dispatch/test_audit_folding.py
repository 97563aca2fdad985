from __future__ import annotations

from distributor.dispatch.audit_folding import (
    HELD_SECONDS,
    MAX_BUCKETS,
    MAX_HELD,
    MAX_SUMMARIES,
    OF_A_DELEGATE,
    SEVERAL,
    AuditFolding,
    FoldingRate,
)
from distributor.dispatch.audit_recorder import MAX_WAITING
from distributor.model.audit_entry import MAX_IDS, SERVER, AuditActor, AuditEntry, AuditEvent, AuditOutcome

ALICE = AuditActor("user", "alice", address="192.0.2.7")
BOB = AuditActor("user", "bob", address="192.0.2.8")
SENT, QUEUED, REFUSED = AuditEvent.COMMAND_SENT, AuditEvent.COMMAND_QUEUED, AuditEvent.CALLER_REFUSED
ENROLLED = AuditEvent.AGENT_ENROLLED


def sent(agent_id: str, *command_ids: str) -> AuditEntry:
    return AuditEntry(SENT, SERVER, agent_id=agent_id, command_ids=command_ids, count=len(command_ids))


def refused(address: str, reason: str = "TOKEN_INVALID") -> AuditEntry:
    return AuditEntry(REFUSED, AuditActor("unknown", address=address), AuditOutcome.REFUSED, reason=reason)


def taken(folding: AuditFolding, *, summaries: bool = True, now: float = 0.0) -> list[AuditEntry]:
    folding.release(now)
    return [one.entry for one in folding.take(most=10_000, summaries=summaries)]


def test_commands_that_go_to_one_agent_together_are_one_entry() -> None:
    folding = AuditFolding()
    for one in (sent("a", "c1"), sent("b", "c2"), sent("a", "c3", "c4")):
        folding.add(one, 0.0)
    assert taken(folding) == [sent("a", "c1", "c3", "c4"), sent("b", "c2")]


def test_ids_beyond_the_room_of_an_entry_begin_another() -> None:
    folding = AuditFolding()
    for number in range(MAX_IDS + 1):
        folding.add(sent("a", f"c{number}"), 0.0)
    first, second = taken(folding)
    assert (first.count, len(first.command_ids)) == (MAX_IDS, MAX_IDS)
    assert second == sent("a", f"c{MAX_IDS}")


def test_what_was_taken_does_not_change_any_more() -> None:
    folding = AuditFolding()
    folding.add(sent("a", "c1"), 0.0)
    (before,) = folding.take(most=1, summaries=False)
    folding.add(sent("a", "c2"), 0.0)
    assert before.entry == sent("a", "c1")
    assert taken(folding) == [sent("a", "c2")]


def test_outcomes_reasons_and_actors_stay_apart() -> None:
    folding = AuditFolding()
    entries = [
        AuditEntry(QUEUED, ALICE),
        AuditEntry(QUEUED, BOB),
        AuditEntry(QUEUED, ALICE, AuditOutcome.FAILED, reason="QUEUE_FULL"),
        AuditEntry(QUEUED, ALICE, AuditOutcome.FAILED, reason="STORE_FULL"),
    ]
    for entry in entries:
        folding.add(entry, 0.0)
    assert taken(folding) == entries


def test_a_flood_of_refusals_becomes_few_rows_that_say_how_many_there_were() -> None:
    folding = AuditFolding(strangers=FoldingRate(burst=10, per_second=1))
    for number in range(100_000):
        folding.add(refused(f"192.0.2.{number % 20}", f"R{number % 7}"), number / 100_000)
    entries = taken(folding)
    assert len(entries) <= 10 + 1 + 20, "the burst, what one second adds, and a summary for each address"
    assert sum(entry.count for entry in entries) == 100_000
    summaries = [entry for entry in entries if "folded" in entry.details]
    assert sum(entry.details["folded"] == entry.count for entry in summaries) == len(summaries) > 0


def test_a_flood_from_many_addresses_is_bounded_too() -> None:
    folding = AuditFolding(strangers=FoldingRate(burst=10, per_second=1))
    for number in range(5_000):
        folding.add(refused(f"host-{number}"), 0.0)
    entries = taken(folding)
    assert len(entries) <= 10 + MAX_HELD + 1
    assert sum(entry.count for entry in entries) == 5_000
    assert entries[-1].actor.address == SEVERAL


def test_summaries_of_many_callers_are_bounded_too() -> None:
    folding = AuditFolding(caller=FoldingRate(burst=1, per_second=0))
    for number in range(2 * MAX_SUMMARIES * 2):
        folding.add(AuditEntry(QUEUED, AuditActor("user", f"u{number // 2}"), reason=f"R{number}"), 0.0)
    entries = taken(folding)
    assert sum("folded" in entry.details for entry in entries) == MAX_SUMMARIES + 1
    assert sum(entry.count for entry in entries) == 4 * MAX_SUMMARIES


def test_a_lasting_flood_of_strangers_does_not_displace_what_others_did() -> None:
    """The trail keeps a million rows by default; without credentials, nobody may fill a fifth of them in 30 days."""
    folding, rows, noted, day = AuditFolding(), 0, 0, 86_400
    kinds = (REFUSED, AuditEvent.PERMISSION_DENIED, AuditEvent.LIMIT_EXCEEDED)
    for second in range(day):
        for event in kinds:
            address = f"2001:db8::{second:x}"
            folding.add(AuditEntry(event, AuditActor("unknown", address=address), AuditOutcome.REFUSED), second)
        noted += len(kinds)
        rows += len(taken(folding, now=second))
    rows += len(taken(folding, now=day + HELD_SECONDS))
    first_day, later = 1_000 * len(kinds), 1_000_000 // 5 // 30
    assert rows <= first_day + later, f"{rows} rows for {noted} refusals"


def test_the_first_summary_of_a_flood_does_not_wait() -> None:
    folding = AuditFolding(strangers=FoldingRate(burst=1, per_second=0.01))
    for number in range(10):
        folding.add(refused("192.0.2.7", f"R{number}"), 50.0)
    assert [entry.count for entry in taken(folding, now=50.0)] == [1, 9]
    folding.add(refused("192.0.2.7"), 51.0)
    assert taken(folding, now=51.0) == []
    assert [entry.count for entry in taken(folding, now=50.0 + HELD_SECONDS)] == [1]


def test_a_flood_of_failed_enrolments_does_not_hide_one_that_succeeds() -> None:
    folding = AuditFolding(strangers=FoldingRate(burst=1, per_second=0.01))
    stranger = AuditActor("unknown", address="192.0.2.7")
    for number in range(100):
        folding.add(AuditEntry(ENROLLED, stranger, AuditOutcome.FAILED, reason=f"R{number}"), 0.0)
    folding.add(AuditEntry(ENROLLED, stranger, agent_id="press-7"), 0.0)
    assert "press-7" in [entry.agent_id for entry in taken(folding)]


def test_one_caller_does_not_hide_another() -> None:
    folding = AuditFolding(caller=FoldingRate(burst=3, per_second=1))
    for number in range(50):
        folding.add(AuditEntry(QUEUED, BOB, agent_id=f"agent-{number}", command_ids=(f"c{number}",)), 0.0)
    folding.add(AuditEntry(QUEUED, ALICE, agent_id="press-7", command_ids=("mine",)), 0.0)
    entries = taken(folding)
    assert [entry.command_ids for entry in entries if entry.actor == ALICE] == [("mine",)]
    assert sum(entry.count for entry in entries if entry.actor == BOB) == 50


def test_users_that_a_bridge_invents_leave_room_for_what_others_do() -> None:
    folding = AuditFolding()
    kinds = (AuditEvent.DASHBOARD_CONNECTED, AuditEvent.COMMAND_READ, AuditEvent.CALLER_REFUSED)
    for number in range(10_000):
        invented = AuditActor("service", "bridge", on_behalf_of=f"user {number}", address="192.0.2.9")
        folding.add(AuditEntry(kinds[number % 3], invented), 0.0)
    assert len(folding) <= 3 * OF_A_DELEGATE.burst < MAX_WAITING / 2
    folding.add(AuditEntry(QUEUED, ALICE), 0.0)
    rows = taken(folding)
    assert AuditEntry(QUEUED, ALICE) in rows
    assert sum(row.count for row in rows) == 10_001
    assert len(rows) < MAX_WAITING / 2


def test_the_rate_recovers() -> None:
    folding = AuditFolding(caller=FoldingRate(burst=2, per_second=1))
    for number in range(4):
        folding.add(AuditEntry(QUEUED, BOB, agent_id=f"a{number}"), 0.0)
    assert [entry.agent_id for entry in taken(folding, summaries=False)] == ["a0", "a1"]
    folding.add(AuditEntry(QUEUED, BOB, agent_id="later"), 5.0)
    assert [entry.agent_id for entry in taken(folding, summaries=False)] == ["later"]
    assert folding.has_summaries
    (summary,) = taken(folding)
    assert (summary.agent_id, summary.count, summary.details) == ("", 2, {"folded": 2})


def test_memory_is_bounded_whoever_calls() -> None:
    folding = AuditFolding()
    for number in range(2 * MAX_BUCKETS):
        folding.add(AuditEntry(QUEUED, AuditActor("user", f"u{number}")), 0.0)
        folding.take(most=10, summaries=True)
    assert len(folding._buckets) <= MAX_BUCKETS
