from __future__ import annotations

import pytest

from distributor.rpc.attach_pace import SHORTEST_WAIT_SECONDS, AttachPace


def test_as_many_attach_at_once_as_in_a_second_and_the_others_return_one_after_the_other() -> None:
    pace = AttachPace(10.0)
    assert [pace.admit(100.0) for _ in range(10)] == [None] * 10
    waits = [pace.admit(100.0) for _ in range(20)]
    assert waits == pytest.approx([SHORTEST_WAIT_SECONDS + (place + 1) / 10 for place in range(20)])
    # Those that return when they were told are admitted.
    assert [pace.admit(100.0 + wait) for wait in waits if wait is not None] == [None] * 20


def test_a_quiet_time_earns_no_more_than_a_second_of_agents() -> None:
    pace = AttachPace(10.0)
    pace.admit(0.0)
    admitted = [pace.admit(1_000.0) for _ in range(11)]
    assert (admitted[:10], admitted[10] is None) == ([None] * 10, False)


def test_agents_that_cannot_attach_return_at_different_times() -> None:
    pace = AttachPace(2.0)
    assert [pace.later(5.0), pace.later(5.0), pace.later(50.0)] == pytest.approx([1.0, 1.5, 1.0])
