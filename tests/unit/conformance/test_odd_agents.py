"""Whatever an agent sends, the kit scores it, and says what was expected and what came."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.conformance.catalogue import SCENARIOS
from distributor.conformance.scenario import Scenario
from distributor.conformance.score import Verdict
from distributor.conformance.unmet import FAULT_OF_THE_KIT
from distributor.v1 import agent_gateway_pb2 as pb
from tests.support.memory_gateway import MemoryGateway, MemoryStream
from tests.support.model_agent import Journal, ModelAgent
from tests.support.model_process import played
from tests.support.odd_messages import odd_messages, variants

Change = Callable[[pb.ConnectRequest], pb.ConnectRequest]


class OddStream(MemoryStream):
    """Changes one message of the agent."""

    def __init__(self, place: int, change: Change) -> None:
        super().__init__()
        self._place = place
        self._change = change

    def send(self, message: pb.ConnectRequest) -> None:
        self._place -= 1
        super().send(message if self._place else self._change(message))


def odd_agent(place: int, change: Change) -> Callable[..., ModelAgent]:
    """An agent whose message at `place` of each stream, counted from 1, is changed."""

    def program(gateway: MemoryGateway, journal: Journal, *, orphan_after: float) -> ModelAgent:
        gateway.make_stream = lambda: OddStream(place, change)
        return ModelAgent(gateway, journal, orphan_after=orphan_after)

    return program


def replaced_by(odd: pb.ConnectRequest) -> Change:
    return lambda message: odd


@given(one=st.sampled_from(SCENARIOS), place=st.integers(1, 6), odd=odd_messages(pb.ConnectRequest))
def test_the_kit_scores_any_message(one: Scenario, place: int, odd: pb.ConnectRequest) -> None:
    scored(one, place, replaced_by(odd))


@pytest.mark.parametrize("name", ["output-in-chunks", "report-a-failure", "cancel-again-and-again", "orphaned"])
@pytest.mark.parametrize("place", range(1, 5))
def test_the_kit_scores_any_value(name: str, place: int) -> None:
    (one,) = (each for each in SCENARIOS if each.name == name)
    sent: list[pb.ConnectRequest] = []

    def keep(message: pb.ConnectRequest) -> pb.ConnectRequest:
        sent.append(message)
        return message

    scored(one, place, keep)
    for message in sent[:1]:
        for odd in variants(message):
            scored(one, place, replaced_by(odd))


def scored(one: Scenario, place: int, change: Change) -> None:
    """Play a scenario, and check that the kit coped."""
    score = played(one, odd_agent(place, change))
    assert score.verdict in Verdict
    assert FAULT_OF_THE_KIT not in score.came
    assert score.expected
    assert score.came
