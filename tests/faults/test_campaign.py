"""The part of the campaign that every test run has time for. `make faults` runs all of it."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.faults.campaign.fault import Fault
from tests.faults.campaign.faults.agents import AgentKilledAt
from tests.faults.campaign.faults.network import Cut, Held, agent_links, valkey_links
from tests.faults.campaign.faults.servers import ServerKilledAt, ServerPausedAt
from tests.faults.campaign.faults.store import ValkeyEnded, ValkeyPaused
from tests.faults.campaign.nemesis import run_fault
from tests.faults.campaign.report import details
from tests.faults.campaign.world import Plan, world

SEED: Final = 1

SERVERS: Final = (ServerKilledAt("after_claim"), ServerKilledAt("before_ack"), ServerPausedAt("after_write", 4.0))
AGENTS: Final = (AgentKilledAt("before_starting"), AgentKilledAt("while_running"))
LINKS: Final = (
    Cut("agents cut off", agent_links),
    Held("servers to agents held", lambda world: [link.down for link in agent_links(world)], 4.0),
    Cut("Valkey cut off", valkey_links),
)
VALKEY: Final = (ValkeyEnded("Valkey killed", signal.SIGKILL, 0.5), ValkeyPaused(2.0))


@pytest.mark.parametrize(
    "faults", [SERVERS, AGENTS, LINKS, VALKEY], ids=["servers die", "agents die", "links fail", "Valkey fails"]
)
async def test_no_promise_is_broken(faults: Sequence[Fault], tmp_path: Path) -> None:
    async with world(Plan(), tmp_path) as made:
        for fault in faults:
            outcome = await run_fault(made, fault, SEED, times=1)
            assert outcome.passed, f"{fault.name}: {outcome.invalid}\n{details(outcome)}"
