"""All faults by name."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from tests.faults.campaign.fault import Fault
from tests.faults.campaign.faults.agents import AgentKilledAt, AgentPausedAt, JournalLost
from tests.faults.campaign.faults.clocks import ClocksOff
from tests.faults.campaign.faults.crowds import Crowd
from tests.faults.campaign.faults.network import Cut, Held, HeldLong, Slow, agent_links, both, valkey_links
from tests.faults.campaign.faults.races import CancelRacesResult, SameKey
from tests.faults.campaign.faults.readers import OutputFlood, SlowReader
from tests.faults.campaign.faults.restarts import RollingRestart
from tests.faults.campaign.faults.servers import ServerKilledAt, ServerPausedAt, ServerPausedLong
from tests.faults.campaign.faults.store import (
    EmbeddedValkeyKilled,
    IndexesDeleted,
    ValkeyEnded,
    ValkeyFull,
    ValkeyKilledOnSlowDisk,
    ValkeyPaused,
)
from tests.faults.campaign.hooks import AGENT_POINTS, SERVER_POINTS


def all_faults() -> Sequence[Fault]:
    """Every fault of the campaign, in the order of its table."""
    return (
        *(ServerKilledAt(point) for point in SERVER_POINTS),
        *(ServerPausedAt(point) for point in SERVER_POINTS),
        ServerPausedLong("after_claim", 60.0),
        *(AgentKilledAt(point) for point in AGENT_POINTS),
        JournalLost(),
        *(AgentPausedAt(point) for point in ("before_receiving", "before_starting", "after_finishing")),
        Held("agents to servers held", lambda world: [link.up for link in agent_links(world)], 5.0),
        Held("servers to agents held", lambda world: [link.down for link in agent_links(world)], 5.0),
        Held(
            "agents black-holed",
            lambda world: both(agent_links(world)),
            6.0,
        ),
        Held("servers to Valkey held", lambda world: [link.up for link in valkey_links(world)], 4.0),
        Held("Valkey to servers held", lambda world: [link.down for link in valkey_links(world)], 4.0),
        Slow("slow links", delay_seconds=0.4, bytes_per_second=20_000, seconds=4.0),
        Cut("agents cut off", agent_links),
        Cut("Valkey cut off", valkey_links),
        ValkeyEnded("Valkey restarted", signal.SIGTERM, 0.5),
        ValkeyEnded("Valkey killed", signal.SIGKILL, 1.0),
        ValkeyPaused(4.0),
        ValkeyFull(),
        OutputFlood(),
        SlowReader(),
        CancelRacesResult(),
        SameKey(),
        Crowd(2_000),
        ClocksOff(),
        EmbeddedValkeyKilled(),
        EmbeddedValkeyKilled(500, "disk"),
        ValkeyKilledOnSlowDisk(),
        IndexesDeleted(),
        RollingRestart("rolling restart, one address", several_addresses=False),
        RollingRestart("rolling restart, several addresses", several_addresses=True),
        HeldLong("commands held for 60 s", 60.0),
    )
