"""Decides how many commands to offer each agent; the distributor acts on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Room(NamedTuple):
    """Free room of one agent: commands, and control commands in addition."""

    agent_id: str
    credit: int
    control_credit: int = 0


class Offer(NamedTuple):
    """At most `max_commands` commands for one agent, and `max_control` control commands in addition."""

    agent_id: str
    max_commands: int
    max_control: int = 0


def assign(rooms: Sequence[Room], batch_size: int, turn: int) -> list[Offer]:
    """Offers for agents with any credit, at most `batch_size` commands each.

    `turn` counts rounds and rotates the order, so that no agent is always served last.
    """
    willing = [
        Offer(room.agent_id, min(room.credit, batch_size), room.control_credit)
        for room in rooms
        if room.credit > 0 or room.control_credit > 0
    ]
    if not willing:
        return []
    first = turn % len(willing)
    return willing[first:] + willing[:first]
