from __future__ import annotations

from distributor.model.command import Receipts
from distributor.model.event import CommandChanged, EventKind
from distributor.model.known_states import KnownStates
from distributor.model.lifecycle import CommandStatus
from tests.support.memory_stores import state

QUEUED = state(status=CommandStatus.QUEUED, attempt=0, revision=1)


def delta(revision: int, **changes: int) -> CommandChanged:
    """A change that carries only what changed."""
    receipts = {name: changes.pop(name) for name in Receipts._fields if name in changes}
    return CommandChanged(
        EventKind.STARTED, "c1", "agent123", revision, CommandStatus.ASSIGNED, 1, receipts=receipts, changes=changes
    )


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


def test_a_change_that_was_missing_does_not_hide_the_one_after_it() -> None:
    known = KnownStates()
    known.learn(QUEUED)
    assert known.after(delta(3)) is None
    assert known.after(delta(2)) is None, "revision 2 is not the latest: the state must be reread"
    assert known.learn(state(revision=3))
    assert known.is_old(delta(2))


def test_memory_is_bounded_and_the_oldest_is_forgotten() -> None:
    known = KnownStates(max_states=2)
    for number in range(3):
        known.learn(state(f"c{number}", revision=1))
    assert [known.is_old(delta(1)._replace(command_id=f"c{number}")) for number in range(3)] == [False, True, True]
