"""An agent's status, and the vitals that it is derived from."""

from __future__ import annotations

import pytest

from distributor.model.agent import AgentInfo, AgentStatus
from distributor.model.agent_vitals import AgentVitals, bounded_vitals, last_signs, same_signs


@pytest.mark.parametrize(
    ("present", "draining", "degraded", "used", "status"),
    [
        (False, True, True, 5, AgentStatus.OFFLINE),
        (True, True, True, 5, AgentStatus.DRAINING),
        (True, False, True, 5, AgentStatus.DEGRADED),
        (True, False, False, 5, AgentStatus.BUSY),
        (True, False, False, 4, AgentStatus.ONLINE),
    ],
)
def test_the_first_status_that_holds_counts(
    present: bool, draining: bool, degraded: bool, used: int, status: AgentStatus
) -> None:
    """Slots make an agent busy, not commands."""
    agent = AgentInfo("a1", 1, present, 5, 1, 0, (), {}, "", 1, 1, 0, draining=draining, degraded=degraded)
    assert agent._replace(slots_used=used).status is status


def test_vitals_are_bounded() -> None:
    problems = [("c" * 100, "m" * 1_000)] * 9
    assert bounded_vitals(1_299, True, problems) == AgentVitals(1_200, True, (("c" * 64, "m" * 256),) * 8)
    assert bounded_vitals(-5, False, []) == bounded_vitals(99, False, []) == AgentVitals()


def test_of_many_silent_commands_those_that_last_longest_are_kept() -> None:
    silences = [(f"c{ms}", float(ms)) for ms in range(1_000, 1_200)]
    signs = last_signs(silences, 1_050, 10_000.0)
    assert list(signs.items()) == [(f"c{ms}", 10_000.0 - ms) for ms in range(1_199, 1_099, -1)]
    assert last_signs(silences, 1_199, 0.0) == {}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({}, {}, True),
        ({"c": 5_000.0}, {"c": 5_999.0}, True),
        ({"c": 5_000.0}, {"c": 6_000.0}, False),
        ({"c": 5_000.0}, {}, False),
        ({"c": 5_000.0}, {"d": 5_000.0}, False),
    ],
)
def test_signs_of_life_are_the_same_if_they_are_close(
    one: dict[str, float], other: dict[str, float], same: bool
) -> None:
    assert same_signs(one, other) is same
