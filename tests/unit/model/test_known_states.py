from __future__ import annotations

from distributor.model.event import CommandChanged, EventKind, merged
from distributor.model.known_states import KnownStates
from distributor.model.lifecycle import CommandStatus
from tests.support.memory_stores import changed, state

QUEUED = state(status=CommandStatus.QUEUED, attempt=0, revision=1)


def delta(revision: int, **changes: int) -> CommandChanged:
    """A change that carries only what changed."""
    return CommandChanged(EventKind.STARTED, "c1", "agent123", revision, CommandStatus.ASSIGNED, 1, changes=changes)


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


def test_changes_are_merged_into_what_is_known() -> None:
    known = KnownStates()
    assert known.learn(QUEUED)
    assert not known.learn(QUEUED)
    after = known.after(delta(2, assigned_ms=7))
    assert after is not None
    assert known.is_old(delta(2))
    assert not known.is_old(delta(3))
    assert known.after(delta(4)) is None
    assert known.learn(state(revision=4))
    assert known.after(delta(5)) is not None
    assert not known.learn(after)


def test_memory_is_bounded_and_the_oldest_is_forgotten() -> None:
    known = KnownStates(max_states=2)
    for number in range(3):
        known.learn(state(f"c{number}", revision=1))
    assert [known.is_old(delta(1)._replace(command_id=f"c{number}")) for number in range(3)] == [False, True, True]
