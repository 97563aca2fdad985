from __future__ import annotations

from collections.abc import Callable

import pytest

from distributor.agent import Agent, CommandContext, ExecPolicy
from distributor.errors import ConfigurationError, FailedPrecondition
from distributor.model.command import InvalidField


async def nothing(command: CommandContext) -> None:
    """A handler that does nothing."""


@pytest.mark.parametrize("agent_id", ["", "has space", "x" * 129, "ünicode"])
def test_a_badly_spelt_agent_id_is_refused(agent_id: str) -> None:
    with pytest.raises(InvalidField, match="agent_id must be 1 to 128"):
        Agent(agent_id)


@pytest.mark.parametrize("capacity", [0, -1, 1_001])
def test_the_capacity_has_limits(capacity: int) -> None:
    with pytest.raises(ConfigurationError, match="capacity must be 1 to 1,000"):
        Agent("a", capacity=capacity)


def many_types(agent: Agent) -> None:
    for number in range(99):
        agent.add_handler(f"T{number}", nothing)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda agent: agent.add_handler("1ST", nothing), "a command type must be a letter"),
        (lambda agent: agent.add_handler("PING", nothing), "there is already a handler for PING"),
        (lambda agent: agent.add_handler("STOP", nothing), "there is already a handler for STOP"),
        (lambda agent: agent.add_handler("GREET", "text"), "the handler for GREET must be a function"),
        (many_types, "handlers for at most 100 types"),
    ],
)
def test_mistakes_in_registering_handlers(mistake: Callable[[Agent], None], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        mistake(Agent("a"))


def test_the_decorator_gives_the_handler_back() -> None:
    assert Agent("a").handler("GREET")(nothing) is nothing


def test_an_allowed_program_that_does_not_exist_is_an_error_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match="'no-such-program' is not on this host"):
        Agent("a", exec_policy=ExecPolicy(allowed_programs=("no-such-program",)))


def test_only_a_serving_agent_can_be_stopped() -> None:
    with pytest.raises(FailedPrecondition, match="not serving"):
        Agent("a").stop()
