"""The settings that operators choose. This package is the only reader of the environment.

Four groups, each a frozen value: `ServerSettings`, `BridgeSettings`, `AgentSettings`, `ClientSettings`. The
`load_...` functions gather them from, in rising precedence: defaults, a TOML file with a table for each group,
environment variables, and overrides given by a command line. An unknown name is an error, wherever it is given.

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
from distributor.settings.values import is_loopback, split_address

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
    "split_address",
]
