"""Settings for operators. Only this package reads the environment.

There are four groups, each a frozen value: `ServerSettings`, `BridgeSettings`, `AgentSettings`, `ClientSettings`. The
`load_...` functions read, in rising precedence: defaults, a TOML file with one table per group, environment variables,
and command-line overrides. An unknown name in any source is an error.

Durations are seconds, sizes are bytes.
"""

from __future__ import annotations

from distributor.settings.agent import AgentSettings
from distributor.settings.bridge import BridgeSettings
from distributor.settings.client import ClientSettings
from distributor.settings.loading import (
    load_agent_settings,
    load_bridge_settings,
    load_client_settings,
    load_server_settings,
)
from distributor.settings.server import ServerSettings
from distributor.settings.values import is_loopback, reachable_address, split_address

__all__ = [
    "AgentSettings",
    "BridgeSettings",
    "ClientSettings",
    "ServerSettings",
    "is_loopback",
    "load_agent_settings",
    "load_bridge_settings",
    "load_client_settings",
    "load_server_settings",
    "reachable_address",
    "split_address",
]
