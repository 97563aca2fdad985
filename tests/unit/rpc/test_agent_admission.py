"""Who is let in, and what is free again afterwards."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from distributor.errors import ResourceExhausted
from distributor.rpc.agent_admission import AgentAdmission


def test_streams_beyond_twice_the_limit() -> None:
    admission = AgentAdmission(2)
    for _ in range(2):
        with ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(admission.stream())
            with (
                pytest.raises(ResourceExhausted, match=r"4 agent streams .*\(max_agents\)") as caught,
                admission.stream(),
            ):
                pass
            assert (caught.value.reason, caught.value.retry_after_seconds) == ("TOO_MANY_AGENTS", 30.0)


def test_agents_beyond_the_limit() -> None:
    admission = AgentAdmission(2)
    with admission.agent("a"):
        for _ in range(2):
            with (
                admission.agent("b"),
                pytest.raises(ResourceExhausted, match=r"2 agents .*\(max_agents\)"),
                admission.agent("c"),
            ):
                pass
        with admission.agent("c"):
            pass


def test_an_agent_that_is_here_may_come_again_and_counts_until_its_last_stream_ends() -> None:
    admission = AgentAdmission(1)
    with ExitStack() as newer:
        with admission.agent("a"):
            newer.enter_context(admission.agent("a"))
        with pytest.raises(ResourceExhausted), admission.agent("b"):
            pass
    with admission.agent("b"):
        pass


def test_what_fails_is_free_again() -> None:
    admission = AgentAdmission(1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), admission.stream(), admission.agent("a"):
            raise ZeroDivisionError
