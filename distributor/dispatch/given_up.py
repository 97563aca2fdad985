"""Attempts that were given up although their agent may still run them, because an acknowledgement was lost."""

from __future__ import annotations

from distributor.dispatch.agent_registry import AttachedAgent


def stop_given_up(agent: AttachedAgent, command_id: str, reason: str) -> None:
    """Cancel what the agent may still run of a command that has ended.

    Sessions remember only attempts of their own stream: attaching settles whatever an agent has from earlier ones.
    """
    for lease_id in agent.session.settle_given_up(command_id):
        agent.withdraw(command_id, lease_id, reason, stop=True)
