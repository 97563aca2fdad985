from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.bridge.subscriptions import Subscriptions
from distributor.errors import ResourceExhausted


def test_who_is_told_of_a_command() -> None:
    subscriptions: Subscriptions[str] = Subscriptions()
    subscriptions.add_commands("by id", ["c1"])
    subscriptions.add_commands_of("by agent", ["a1"])
    subscriptions.add_all_commands("all")
    assert subscriptions.watchers_of_command("c1", "a1") == {"by id", "by agent", "all"}
    assert subscriptions.watchers_of_command("c2", "a1") == {"by agent", "all"}
    assert subscriptions.watchers_of_command("c1", "a2") == {"by id", "all"}
    subscriptions.remove_all_commands("all")
    subscriptions.remove_commands_of("by agent", ["a1"])
    subscriptions.remove_commands("by id", ["c1", "never had"])
    assert subscriptions.watchers_of_command("c1", "a1") == set()


def test_who_is_told_of_an_agent() -> None:
    subscriptions: Subscriptions[str] = Subscriptions()
    subscriptions.add_agents("named", ["a1"])
    subscriptions.add_all_agents("all")
    assert subscriptions.of_all_agents
    assert subscriptions.watchers_of_agent("a1") == {"named", "all"}
    assert subscriptions.watchers_of_agent("a2") == {"all"}
    assert set(subscriptions.agents) == {"a1"}
    subscriptions.remove_agents("named", ["a1"])
    subscriptions.remove_all_agents("all")
    assert not subscriptions.watchers_of_agent("a1")


def test_a_dashboard_has_a_limit() -> None:
    subscriptions: Subscriptions[str] = Subscriptions(limit=3)
    subscriptions.add_commands("d", ["c1", "c1", "c2"])
    subscriptions.add_agents("d", ["a1"])
    with pytest.raises(ResourceExhausted, match="limit of 3 agents and commands"):
        subscriptions.check("d", 1)
    subscriptions.check("other", 3)
    subscriptions.remove_commands("d", ["c1"])
    subscriptions.check("d", 1)


def test_nothing_comes_back_after_a_connection_closed() -> None:
    subscriptions: Subscriptions[str] = Subscriptions()
    subscriptions.add_commands("d", ["c1"])
    subscriptions.drop("d")
    subscriptions.remove_commands("d", ["c1"])
    assert subscriptions.watchers_of_command("c1", "a1") == set()
    assert len(subscriptions) == 0


NAMES = st.lists(st.sampled_from("abc"), max_size=3)


@given(st.lists(st.tuples(st.sampled_from(["x", "y"]), NAMES, NAMES, NAMES, st.booleans()), max_size=10))
def test_everything_a_connection_owned_is_dropped(
    steps: list[tuple[str, list[str], list[str], list[str], bool]],
) -> None:
    subscriptions: Subscriptions[str] = Subscriptions()
    for dashboard, commands, commands_of, agents, everything in steps:
        subscriptions.add_commands(dashboard, commands)
        subscriptions.add_commands_of(dashboard, commands_of)
        subscriptions.add_agents(dashboard, agents)
        if everything:
            subscriptions.add_all_commands(dashboard)
            subscriptions.add_all_agents(dashboard)
    subscriptions.drop("x")
    assert all(subscriptions.watchers_of_command(c, a) <= {"y"} for c in "abc" for a in "abc")
    assert subscriptions.count("x") == 0
    subscriptions.drop("y")
    assert len(subscriptions) == 0
    assert not subscriptions.watchers_of_agent("a1")
