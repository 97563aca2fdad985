"""Which events are older than what was read, and how long that is remembered."""

from __future__ import annotations

from distributor.bridge.read_states import ReadStates
from distributor.model.lifecycle import CommandStatus
from tests.support.memory_stores import state

RUNNING = state("c", CommandStatus.ASSIGNED, revision=3)
ENDED = state("c", CommandStatus.COMPLETED, revision=5)


def test_an_event_is_news_only_with_a_higher_revision() -> None:
    reads = ReadStates()
    assert reads.is_news(RUNNING)
    reads.note(RUNNING, "5-0")
    assert [reads.is_news(RUNNING._replace(revision=revision)) for revision in (2, 3, 4)] == [False, False, True]
    assert [reads.is_newest(RUNNING._replace(revision=revision)) for revision in (2, 3, 4)] == [False, True, True]


def test_an_ending_that_is_due_is_news_once() -> None:
    reads = ReadStates()
    reads.note(ENDED, "5-0", ending_due=True)
    assert reads.is_news(ENDED)
    assert not reads.is_news(ENDED._replace(revision=4))
    reads.sent(ENDED)
    assert not reads.is_news(ENDED)


def test_an_ending_that_was_sent_is_not_due_again_though_a_snapshot_shows_it() -> None:
    reads = ReadStates()
    reads.note(ENDED, "5-0")
    reads.note(ENDED, "6-0", ending_due=True)
    assert not reads.is_news(ENDED)


def test_a_state_that_has_not_ended_is_never_due() -> None:
    reads = ReadStates()
    reads.note(RUNNING, "5-0", ending_due=True)
    assert not reads.is_news(RUNNING)


def test_a_state_is_remembered_until_the_events_before_its_read_are_delivered() -> None:
    reads = ReadStates()
    for number in (1, 2, 3):
        reads.note(state(f"c{number}", CommandStatus.ASSIGNED), f"{number}-0")
    reads.note(state("c1", CommandStatus.ASSIGNED), "4-0")
    reads.delivered("2-0")
    assert len(reads) == 2
    assert not reads.is_news(state("c1", CommandStatus.ASSIGNED))
    assert reads.is_news(state("c2", CommandStatus.ASSIGNED))
    reads.delivered("4-0")
    assert not len(reads)
