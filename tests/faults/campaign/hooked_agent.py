"""`command-agent` with the points of `hooks.py`."""

from __future__ import annotations

from distributor.cli.programs import command_agent
from tests.faults.campaign.hooks import AGENT_POINTS, install

if __name__ == "__main__":
    install(AGENT_POINTS)
    command_agent()
