"""Processes that still run after their command should have ended, as the server is told of them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from distributor.agent.process_table import Process
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.wire.limits import MAX_SURVIVORS


def surviving(processes: Sequence[Process]) -> list[gateway.SurvivingProcess]:
    """Processes with their names, at most MAX_SURVIVORS."""
    return [gateway.SurvivingProcess(pid=one.pid, name=one.name) for one in processes[:MAX_SURVIVORS]]


def surviving_handler(name: str) -> gateway.SurvivingProcess:
    """A handler that runs on within the agent's own process."""
    return gateway.SurvivingProcess(pid=os.getpid(), name=name)
