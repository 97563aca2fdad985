"""PING: answer with the identity and clock of the agent."""

from __future__ import annotations

from datetime import UTC, datetime

from distributor import __version__
from distributor.agent.command_context import CommandContext, Handler


def ping_handler(agent_id: str) -> Handler:
    """A handler that returns the agent's id, version and time."""

    async def ping(command: CommandContext) -> object:
        return {
            "pong": True,
            "agent_id": agent_id,
            "agent_version": __version__,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }

    return ping
