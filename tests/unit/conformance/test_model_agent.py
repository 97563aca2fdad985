"""An agent that keeps to every rule passes every scenario, in virtual time."""

from __future__ import annotations

import pytest

from distributor.conformance.catalogue import SCENARIOS
from distributor.conformance.scenario import Scenario
from distributor.conformance.score import Verdict
from tests.support.model_process import played


@pytest.mark.parametrize("one", SCENARIOS, ids=lambda one: one.name)
def test_the_model_passes(one: Scenario) -> None:
    score = played(one)
    assert score.verdict is Verdict.PASSED, f"expected {score.expected} came {score.came}"
