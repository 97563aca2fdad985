from __future__ import annotations

from typing import Any

from distributor.model.command import Reason, Receipts
from distributor.model.event import CommandChanged, EventKind, merged
from distributor.model.lifecycle import CommandStatus
from tests.support.memory_stores import changed, state

QUEUED = state(status=CommandStatus.QUEUED, attempt=0, revision=1)


def delta(revision: int, **changes: Any) -> CommandChanged:
    """A change that carries only what changed."""
    receipts = {name: changes.pop(name) for name in Receipts._fields if name in changes}
    return CommandChanged(
        EventKind.STARTED, "c1", "agent123", revision, CommandStatus.ASSIGNED, 1, receipts=receipts, changes=changes
    )


def test_an_older_change_changes_nothing() -> None:
    later = state(revision=5)
    assert merged(later, delta(5)) is later
    assert merged(later, changed(EventKind.QUEUED, QUEUED)) is later


def test_a_whole_state_needs_none_before_it() -> None:
    ended = state(status=CommandStatus.FAILED, revision=9)
    assert merged(None, changed(EventKind.FINISHED, ended)) == ended
    assert merged(QUEUED, changed(EventKind.FINISHED, ended)) == ended


def test_a_change_is_merged_into_the_state_just_before_it_only() -> None:
    after = merged(QUEUED, delta(2, assigned_ms=7, cancel_ms=8))
    assert after == QUEUED._replace(
        revision=2,
        status=CommandStatus.ASSIGNED,
        attempt=1,
        cancel_ms=8,
        receipts=QUEUED.receipts._replace(assigned_ms=7),
    )
    assert merged(QUEUED, delta(3)) is None
    assert merged(None, delta(2)) is None


def test_a_change_of_nothing_else_keeps_all_but_status_attempt_and_revision() -> None:
    before = QUEUED._replace(reason=Reason("busy", "later"), cancel_ms=3)
    expected = before._replace(revision=2, status=CommandStatus.ASSIGNED, attempt=1)
    assert merged(before, delta(2)) == expected
    assert merged(before, delta(2, reason=Reason())) == expected._replace(reason=Reason())


def test_changes_merged_in_order_give_the_state_whatever_is_repeated() -> None:
    changes = [changed(EventKind.QUEUED, QUEUED), delta(2, assigned_ms=7), delta(3, started_ms=9)]
    found = None
    for change in (changes[0], *changes[:2], *changes[:2], *changes):
        found = merged(found, change)
        assert found is not None
    assert found == QUEUED._replace(
        revision=3,
        status=CommandStatus.ASSIGNED,
        attempt=1,
        receipts=QUEUED.receipts._replace(assigned_ms=7, started_ms=9),
    )
