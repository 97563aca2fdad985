"""Which agents an enrolment token admits."""

from __future__ import annotations

import pytest

from distributor.model.command import InvalidField
from distributor.model.enrolment import EnrolmentToken, check_agents


def token(agents: str) -> EnrolmentToken:
    return EnrolmentToken("id", agents, {}, 1, 0)


def test_a_token_is_for_one_agent_or_for_a_pattern() -> None:
    assert token("press-7").admits("press-7")
    assert not token("press-7").admits("press-77")
    assert not token("press-7").is_for_group
    assert token("press-*").admits("press-77")
    assert token("press-?").admits("press-7")
    assert not token("press-?").admits("press-77")
    assert not token("press-*").admits("PRESS-7")
    assert token("press-*").is_for_group


@pytest.mark.parametrize("agents", ["", "a b", "press-[78]", "a/b", "x" * 129, "*" * 129])
def test_other_patterns_are_refused(agents: str) -> None:
    with pytest.raises(InvalidField, match="agents must be"):
        check_agents(agents)


@pytest.mark.parametrize("agents", ["press-7", "*", "press-*", "?-7"])
def test_ids_and_patterns_are_accepted(agents: str) -> None:
    check_agents(agents)
