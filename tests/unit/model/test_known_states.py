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
    known.learn(QUEUED)
    after = known.after(delta(2, assigned_ms=7))
    assert after == QUEUED._replace(
        revision=2, status=CommandStatus.ASSIGNED, attempt=1, receipts=QUEUED.receipts._replace(assigned_ms=7)
    )
    assert known.after(delta(4)) is None, "revision 3 is missing"
    known.learn(state(revision=4))
    known.learn(after)
    assert known.after(delta(5)) == state(revision=5)


def test_a_state_that_was_read_ahead_of_its_change_supersedes_those_before_it_only() -> None:
    known = KnownStates()
    assert not known.is_superseded(delta(3))
    known.learn(state(revision=4))
    assert [known.is_superseded(delta(revision)) for revision in (3, 4, 5)] == [True, False, False]
    assert known.after(delta(4)) == state(revision=4)


def test_memory_is_bounded_and_the_oldest_is_forgotten() -> None:
    known = KnownStates(max_states=2)
    for number in range(3):
        known.learn(state(f"c{number}", revision=2))
    assert [known.is_superseded(delta(1)._replace(command_id=f"c{number}")) for number in range(3)] == [
        False,
        True,
        True,
    ]
