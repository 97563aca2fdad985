from __future__ import annotations

import pytest

from distributor.conformance import scenario_run
from distributor.conformance.catalogue import SCENARIOS
from distributor.conformance.scenario_run import KitOptions, run_scenarios
from distributor.errors import ConfigurationError
from tests.support.free_port import free_port


async def test_the_kit_gives_up_if_no_agent_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenario_run, "MAX_BACKOFF_SECONDS", 0.0)
    with free_port() as port:
        options = KitOptions(port=port, patience=0.05)
        with pytest.raises(ConfigurationError, match=rf"no agent has connected to 127\.0\.0\.1:{port} within 0\.05 s"):
            await run_scenarios(SCENARIOS, options, lambda score: None)
