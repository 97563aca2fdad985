"""Each revision is announced once, in order, whatever comes late, twice, or was read before."""

from __future__ import annotations

from distributor.model.announcements import Announcements
from distributor.model.command import CommandState
from distributor.model.event import CommandChanged, EventKind
from distributor.model.lifecycle import CommandStatus
from tests.support.memory_stores import changed, state

QUEUED = state(status=CommandStatus.QUEUED, attempt=0, revision=1)
ENDED = state(status=CommandStatus.COMPLETED, revision=4)


def delta(revision: int) -> CommandChanged:
    """A change that carries only what changed."""
    return CommandChanged(EventKind.STARTED, "c1", "agent123", revision, CommandStatus.ASSIGNED, 1)


def whole(after: CommandState) -> CommandChanged:
    """A change that carries the state after it."""
    return changed(EventKind.QUEUED if after.revision == 1 else EventKind.FINISHED, after)


def test_changes_are_merged_and_announced_once() -> None:
    announcements = Announcements()
    assert announcements.announce(whole(QUEUED), 1) == QUEUED
    assert announcements.announce(whole(QUEUED), 1) is None
    assert announcements.announce(delta(2), 1) == state(revision=2)
    assert announcements.announce(whole(QUEUED), 1) is None


def test_a_change_with_one_missing_before_it_must_be_read_and_hides_those_before_it() -> None:
    announcements = Announcements()
    announcements.announce(whole(QUEUED), 1)
    assert announcements.announce(delta(3), 1) == delta(3)
    assert announcements.announce(delta(2), 1) is None
    announcements.learn(state(revision=2))
    assert announcements.announce(delta(4), 1) == delta(4)
    announcements.learn(state(revision=4))
    assert announcements.announce(delta(5), 1) == state(revision=5)


def test_a_state_that_was_read_is_announced_with_its_own_change() -> None:
    announcements = Announcements()
    announcements.learn(ENDED)
    announcements.learn(QUEUED)
    assert announcements.announce(delta(3), 1) is None
    assert announcements.announce(whole(ENDED), 1) == ENDED
    assert announcements.announce(whole(ENDED), 1) is None


def test_changes_from_the_time_of_a_forgotten_one_must_be_read_unless_they_are_the_last() -> None:
    announcements = Announcements(max_commands=1)
    announcements.announce(delta(2), 5)
    announcements.announce(whole(QUEUED._replace(command_id="c2")), 7)
    assert announcements.announce(whole(QUEUED), 4) == whole(QUEUED), "c1 may have gone on by then, as it has"
    assert announcements.announce(whole(QUEUED._replace(command_id="c3")), 8) == QUEUED._replace(command_id="c3")
    assert announcements.announce(whole(ENDED), 6) == ENDED


def test_what_was_announced_before_it_began_must_be_read() -> None:
    announcements = Announcements()
    announcements.forget_until(5)
    announcements.forget_until(3)
    assert announcements.announce(whole(QUEUED), 5) == whole(QUEUED)
    assert announcements.announce(delta(2), 6) == state(revision=2)
