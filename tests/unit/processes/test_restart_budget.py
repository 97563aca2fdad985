"""How often something is started again."""

from __future__ import annotations

from distributor.processes.restart_budget import MOST_RESTARTS, WITHIN_SECONDS, RestartBudget


def test_only_so_often_within_a_time() -> None:
    budget = RestartBudget()
    assert [budget.spend(100.0 + number) for number in range(MOST_RESTARTS + 1)] == [True] * MOST_RESTARTS + [False]


def test_what_is_long_past_does_not_count() -> None:
    budget = RestartBudget()
    for number in range(MOST_RESTARTS):
        budget.spend(100.0 + number)
    assert not budget.spend(99.9 + WITHIN_SECONDS)
    assert budget.spend(100.0 + WITHIN_SECONDS)
