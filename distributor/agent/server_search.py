"""Looks for another server while the present one, which is about to end, still serves the agent."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from distributor.agent.server_addresses import ServerAddresses
from distributor.agent.server_channel import ServerChannel
from distributor.wire.credentials import Connector

TRY_SECONDS: Final = 2.0
"""Limit for one address: another may be ready meanwhile."""
PAUSE_SECONDS: Final = 0.5
"""Longest pause between rounds. A server that restarts is found soon, and few agents try at the same moment."""


async def another_server(addresses: ServerAddresses, connector: Connector) -> ServerChannel:
    """A connection to a server that takes agents, the present address last. Tries until there is one."""
    while True:
        for address in addresses.others_first:
            channel = await _ready(address, connector)
            if channel is not None:
                return channel
        await asyncio.sleep(random.uniform(PAUSE_SECONDS / 2, PAUSE_SECONDS))


async def _ready(address: str, connector: Connector) -> ServerChannel | None:
    channel = ServerChannel(address, connector)
    usable = False
    try:
        usable = await channel.connects(TRY_SECONDS) and await channel.takes_agents()
    finally:
        if not usable:
            await channel.close()
    return channel if usable else None
