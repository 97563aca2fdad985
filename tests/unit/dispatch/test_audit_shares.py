from __future__ import annotations

from collections import deque

import pytest

from distributor.dispatch.audit_folding import AuditFolding
from distributor.dispatch.audit_shares import MAX_ACTORS, SCARCE_FROM, AuditShares
from distributor.model.audit_entry import AuditActor, AuditEntry, AuditEvent, AuditOutcome

ROWS, RETENTION = 10_000, 3_600
ALICE, EVE = AuditActor("user", "alice"), AuditActor("user", "eve")
KINDS = (AuditEvent.COMMAND_QUEUED, AuditEvent.COMMAND_READ, AuditEvent.COMMAND_CANCELLED)


def shares(part: float = SCARCE_FROM) -> AuditShares:
    made = AuditShares(ROWS, RETENTION)
    made.filled(part)
    return made


def admitted(one: AuditShares, actor: AuditActor, now: float = 0.0) -> int:
    """How many rows of an actor fit at once."""
    return sum(one.admits(actor, now) for _ in range(ROWS))


class Trail:
    """What is kept of an hour, as it is pruned: by age, and the oldest beyond the limit."""

    def __init__(self) -> None:
        self.rows: deque[tuple[int, AuditEntry]] = deque()
        self.displaced = 0
        self.folding = AuditFolding(shares=AuditShares(ROWS, RETENTION))

    def write(self, second: int) -> None:
        """What a server does each second."""
        self.folding.release(second)
        self.rows += [(second, one.entry) for one in self.folding.take(most=10_000, summaries=True)]
        while self.rows and self.rows[0][0] <= second - RETENTION:
            self.rows.popleft()
        while len(self.rows) > ROWS:
            self.rows.popleft()
            self.displaced += 1
        if second % 60 == 0:
            self.folding.shares.filled(len(self.rows) / ROWS)


def test_a_lasting_flood_of_a_caller_does_not_displace_what_others_did() -> None:
    trail, hours = Trail(), 3
    for second in range(hours * RETENTION):
        for kind in KINDS:
            for number in range(4):
                trail.folding.add(AuditEntry(kind, EVE, agent_id=f"agent{number}"), second)
        if second % 10 == 0:
            trail.folding.add(AuditEntry(AuditEvent.COMMAND_QUEUED, ALICE, agent_id=f"press-{second}"), second)
        # The flood makes servers write, too.
        trail.folding.add(AuditEntry(AuditEvent.COMMAND_SENT, agent_id=f"agent{second}"), second)
        trail.write(second)
    assert trail.displaced == 0
    of_alice = [entry.agent_id for _, entry in trail.rows if entry.actor == ALICE]
    last = range((hours - 1) * RETENTION, hours * RETENTION, 10)
    assert of_alice == [f"press-{second}" for second in last], "each has a row of its own"


def test_while_there_is_room_nobody_has_a_share() -> None:
    assert admitted(shares(SCARCE_FROM - 0.01), EVE) == ROWS


def test_half_of_a_share_may_be_used_at_once_and_the_other_within_the_retention() -> None:
    one = shares()
    assert [admitted(one, EVE), admitted(one, ALICE)] == [500, 500]
    assert admitted(one, EVE, RETENTION / 2) == 250
    one.filled(0.1)
    assert admitted(one, EVE, RETENTION / 2) == ROWS


@pytest.mark.parametrize("kind", ["server", "agent", "unknown"])
def test_all_without_a_known_caller_have_one_share(kind: str) -> None:
    one = shares()
    assert admitted(one, AuditActor(kind, "a")) == 500
    assert admitted(one, AuditActor("server")) == 0
    assert admitted(one, ALICE) == 500


def test_a_bridge_that_invents_users_has_a_share_of_its_own() -> None:
    one = shares()
    users = [AuditActor("service", "bridge", f"user{number}") for number in range(10)]
    assert [admitted(one, user) for user in users] == [500] * 3 + [0] * 7
    assert admitted(one, AuditActor("service", "other", "user9")) == 500


def test_what_exceeds_a_share_is_counted_in_few_summaries() -> None:
    folding, hour = AuditFolding(shares=shares()), 3_600
    for second in range(hour):
        for number in range(5):
            folding.add(AuditEntry(KINDS[0], EVE, agent_id=f"agent{number}"), second)
        folding.take(most=0, summaries=False)
    folding.release(hour)
    entries = [one.entry for one in folding.take(most=ROWS, summaries=True)]
    assert sum(entry.count for entry in entries) == 5 * hour
    assert len([entry for entry in entries if "folded" in entry.details]) == 1


def test_strangers_at_a_bridge_have_the_limits_of_strangers() -> None:
    folding = AuditFolding()
    for number in range(5_000):
        bridge = AuditActor("service", "bridge", address=f"192.0.2.{number % 200}")
        refused = AuditEntry(AuditEvent.CALLER_REFUSED, bridge, AuditOutcome.REFUSED, reason=f"R{number}")
        folding.add(refused.with_details(via="192.0.2.250"), 0.0)
    folding.release(0.0)
    entries = [one.entry for one in folding.take(most=ROWS, summaries=True)]
    assert sum(entry.count for entry in entries) == 5_000
    assert len(entries) <= 1_000 + 10 + 1
    folding.add(AuditEntry(AuditEvent.CALLER_REFUSED, AuditActor("service", "bridge"), AuditOutcome.REFUSED), 0.0)
    assert len(folding) == 1, "its own refusals are not those of strangers"


def test_a_flood_of_strangers_uses_up_no_share() -> None:
    folding = AuditFolding(shares=shares())
    for number in range(1_000):
        stranger = AuditActor("unknown", address="192.0.2.7")
        folding.add(AuditEntry(AuditEvent.CALLER_REFUSED, stranger, AuditOutcome.REFUSED, reason=f"R{number}"), 0.0)
    folding.take(most=ROWS, summaries=True)
    folding.add(AuditEntry(AuditEvent.COMMAND_SENT, agent_id="press-7"), 0.0)
    assert len(folding) == 1


def test_memory_is_bounded_whoever_calls() -> None:
    one = shares()
    for number in range(2 * MAX_ACTORS):
        one.admits(AuditActor("user", f"u{number}"), 0.0)
    assert len(one) == MAX_ACTORS
