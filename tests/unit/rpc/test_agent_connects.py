from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest

from distributor.errors import ResourceExhausted
from distributor.rpc.agent_connects import AgentConnects
from distributor.settings.agent_limits import AgentLimitSettings


class World:
    """Connects at a time that the test sets."""

    def __init__(self, max_agents: int = 100, **settings: Any) -> None:
        self.now = 0.0
        self.connects = AgentConnects(AgentLimitSettings(**settings), lambda: self.now, max_agents)

    def connect(self, agent_id: str) -> float | None:
        """Connect and leave; after how many seconds to return if it connects too often."""
        try:
            with self.connects.stream(agent_id):
                return None
        except ResourceExhausted as error:
            return error.retry_after_seconds if error.reason == "CONNECTS_TOO_OFTEN" else -1.0


def test_an_agent_that_connects_too_often_waits_and_the_others_do_not() -> None:
    world = World(agent_connects=6)
    assert [world.connect("a") for _ in range(8)] == [None] * 6 + [10.0, 10.0]
    assert world.connect("b") is None
    world.now = 10.0
    assert [world.connect("a"), world.connect("a")] == [None, 10.0]


def test_an_agent_has_only_so_many_streams() -> None:
    world = World(agent_streams=2, agent_connects=0)
    with ExitStack() as streams:
        for _ in range(2):
            streams.enter_context(world.connects.stream("a"))
        with pytest.raises(ResourceExhausted, match="2 streams open") as caught, world.connects.stream("a"):
            raise AssertionError("one too many")
        assert (caught.value.reason, caught.value.retry_after_seconds) == ("TOO_MANY_AGENT_STREAMS", 10.0)
        assert world.connect("b") is None
    assert world.connect("a") is None


def test_zero_is_any_number_of_connects() -> None:
    world = World(agent_connects=0)
    assert {world.connect("a") for _ in range(1_000)} == {None}


def test_a_stream_that_fails_is_free_again() -> None:
    world = World(agent_streams=2, agent_connects=0)
    for _ in range(5):
        with pytest.raises(ZeroDivisionError), world.connects.stream("a"):
            raise ZeroDivisionError


def test_only_so_many_agents_are_remembered_and_those_with_streams_stay() -> None:
    world = World(max_agents=3, agent_streams=2, agent_connects=0)
    with world.connects.stream("here"), world.connects.stream("here"):
        for number in range(100):
            world.connect(f"agent{number}")
        assert len(world.connects) == 1 + 3
        with pytest.raises(ResourceExhausted), world.connects.stream("here"):
            raise AssertionError("one too many")


def test_any_number_of_agents_may_have_streams() -> None:
    world = World(max_agents=3, agent_connects=0)
    with ExitStack() as streams:
        for number in range(10):
            streams.enter_context(world.connects.stream(f"agent{number}"))
        assert len(world.connects) == 10
    world.connect("another")
    assert len(world.connects) == 3


def test_those_with_streams_displace_no_agent_that_connects_too_often() -> None:
    world = World(max_agents=3, agent_connects=1)
    with ExitStack() as streams:
        for number in range(10):
            streams.enter_context(world.connects.stream(f"agent{number}"))
        assert [world.connect("a"), world.connect("b")] == [None, None]
        assert world.connect("a") == 60.0
