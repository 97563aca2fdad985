"""What messages say in the words of the original dashboard protocol."""

from __future__ import annotations

import json

import pytest

from distributor.bridge import messages
from distributor.model.agent import AgentInfo


def agent_info(*, present: bool, running: int, capacity: int = 4) -> AgentInfo:
    """Each of its commands uses one slot."""
    away_since_ms = 0 if present else 3_000
    info = AgentInfo("agent123", 1, present, capacity, running, 0, (), {}, "", 1_000, 2_000, away_since_ms)
    return info._replace(slots_used=running)


@pytest.mark.parametrize(
    ("present", "running", "original", "exact"),
    [
        (True, 0, "online", "online"),
        (True, 1, "busy", "online"),
        (True, 4, "busy", "busy"),
        (False, 0, "offline", "offline"),
        (False, 2, "offline", "offline"),
    ],
)
def test_an_agent_is_busy_while_it_executes_anything(present: bool, running: int, original: str, exact: str) -> None:
    message = json.loads(messages.agent_status(agent_info(present=present, running=running), 5_000))
    assert (message["status"], message["agent"]["status"]) == (original, exact)


@pytest.mark.parametrize(("running", "original"), [(0, "online"), (1, "busy")])
def test_degraded_and_draining_are_no_words_of_the_original_protocol(running: int, original: str) -> None:
    agent = agent_info(present=True, running=running)
    for ill, exact in ((agent._replace(degraded=True), "degraded"), (agent._replace(draining=True), "draining")):
        message = json.loads(messages.agent_status(ill, 5_000))
        assert (message["status"], message["agent"]["status"]) == (original, exact)
