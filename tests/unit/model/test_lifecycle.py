from __future__ import annotations

import itertools

import pytest

from distributor.model.lifecycle import TERMINAL, TRANSITIONS, CommandStatus, Operation, allowed, sources

QUEUED, ASSIGNED = CommandStatus.QUEUED, CommandStatus.ASSIGNED


def test_the_six_words() -> None:
    words = ["queued", "assigned", "completed", "failed", "timeout", "cancelled"]
    assert [status.value for status in CommandStatus] == words
    assert [status.value for status in CommandStatus if status.terminal] == words[2:]


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (Operation.CLAIM, {(QUEUED, ASSIGNED)}),
        (Operation.ADOPT, {(QUEUED, ASSIGNED), (ASSIGNED, ASSIGNED)}),
        (Operation.RELEASE, {(ASSIGNED, QUEUED)}),
        (Operation.FINISH, {(ASSIGNED, status) for status in TERMINAL}),
        (Operation.SETTLE, {(before, after) for before in (QUEUED, ASSIGNED) for after in (*TERMINAL, QUEUED)}),
        (Operation.OUTDATE, {(QUEUED, CommandStatus.FAILED)}),
        (Operation.GIVE_UP, {(ASSIGNED, CommandStatus.FAILED), (ASSIGNED, CommandStatus.CANCELLED)}),
        (Operation.DOUBT, {(QUEUED, ASSIGNED), (ASSIGNED, ASSIGNED)}),
        (
            Operation.LOSE,
            {
                (before, after)
                for before in (QUEUED, ASSIGNED)
                for after in (CommandStatus.TIMEOUT, CommandStatus.FAILED)
            },
        ),
        (Operation.CANCEL, {(QUEUED, CommandStatus.CANCELLED)}),
        (Operation.EXPIRE, {(QUEUED, CommandStatus.TIMEOUT)}),
    ],
)
def test_every_pair_of_states_under_every_operation(
    operation: Operation, expected: set[tuple[CommandStatus, CommandStatus]]
) -> None:
    pairs = itertools.product(CommandStatus, repeat=2)
    assert {(before, after) for before, after in pairs if allowed(operation, before, after)} == expected
    assert set(sources(operation)) == {before for before, _ in expected}


def test_every_operation_is_in_the_table() -> None:
    assert set(TRANSITIONS) == set(Operation)


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_a_terminal_state_is_never_left(status: CommandStatus) -> None:
    assert not any(status in targets for targets in TRANSITIONS.values())


def test_every_state_but_the_first_is_reached_and_has_an_end() -> None:
    reached = {after for targets in TRANSITIONS.values() for afters in targets.values() for after in afters}
    assert reached | {QUEUED} == set(CommandStatus)


def test_sources_come_in_a_stable_order() -> None:
    """They are sent to Valkey with every call."""
    assert sources(Operation.ADOPT) == (QUEUED, ASSIGNED)
