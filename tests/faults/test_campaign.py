"""The part of the campaign that every test run has time for. `make faults` runs all of it."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.faults.campaign.fault import Fault
from tests.faults.campaign.faults.agents import AgentKilledAt
from tests.faults.campaign.faults.clocks import ClocksOff
from tests.faults.campaign.faults.crowds import Crowd
from tests.faults.campaign.faults.network import Cut, Held, agent_links, valkey_links
from tests.faults.campaign.faults.races import CancelRacesResult, SameKey
from tests.faults.campaign.faults.readers import OutputFlood
from tests.faults.campaign.faults.servers import ServerKilledAt, ServerPausedAt
from tests.faults.campaign.faults.store import EmbeddedValkeyKilled, ValkeyEnded, ValkeyFull, ValkeyPaused
from tests.faults.campaign.nemesis import run_fault
from tests.faults.campaign.report import details
from tests.faults.campaign.world import world

SEED: Final = 1
PATIENCE: Final = 3.0
"""The machine may be busy with other tests: a recovery has so many times its bound."""

SERVERS: Final = (ServerKilledAt("after_claim"), ServerKilledAt("before_ack"), ServerPausedAt("after_write", 4.0))
AGENTS: Final = (AgentKilledAt("before_starting"), AgentKilledAt("while_running"))
LINKS: Final = (
    Cut("agents cut off", agent_links),
    Held("servers to agents held", lambda world: [link.down for link in agent_links(world)], 4.0),
    Cut("Valkey cut off", valkey_links),
)
CALLERS: Final = (CancelRacesResult(), SameKey(), Crowd(300))
FLOOD: Final = (OutputFlood(20_000),)
CLOCKS: Final = (ClocksOff(2.0),)
SLOW_DISK: Final = (EmbeddedValkeyKilled(1_000),)
VALKEY: Final = (ValkeyEnded("Valkey killed", signal.SIGKILL, 0.5), ValkeyPaused(2.0), ValkeyFull(1.0))


@pytest.mark.parametrize(
    "faults",
    [SERVERS, AGENTS, LINKS, VALKEY, CALLERS, FLOOD, CLOCKS, SLOW_DISK],
    ids="servers die,agents die,links fail,Valkey fails,callers race,flood,clocks are off,slow disk".split(","),
)
async def test_no_promise_is_broken(faults: Sequence[Fault], tmp_path: Path) -> None:
    async with world(faults[0].plan, tmp_path) as made:
        for fault in faults:
            outcome = await run_fault(made, fault, SEED, times=1, patience=PATIENCE)
            assert outcome.passed, f"{fault.name}: {outcome.invalid}\n{details(outcome)}"
