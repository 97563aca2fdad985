"""Decides how many commands to offer each agent; the distributor acts on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Room(NamedTuple):
    """Free room of one agent: slots, and control commands in addition.

    `needed` is how many slots its first waiting command takes, if that had to wait for more room; else 0.
    """

    agent_id: str
    credit: int
    control_credit: int = 0
    needed: int = 0


class Offer(NamedTuple):
    """At most `max_commands` commands for one agent, and `max_control` control commands in addition.

    The commands may use one slot each, and together `extra_slots` more.
    """

    agent_id: str
    max_commands: int
    max_control: int = 0
    extra_slots: int = 0

    @property
    def max_slots(self) -> int:
        """How many slots the commands may use together."""
        return self.max_commands + self.extra_slots


def assign(rooms: Sequence[Room], batch_size: int, turn: int) -> list[Offer]:
    """Offers for agents with any credit, at most `batch_size` commands each.

    They are for as many slots, or for those that the first waiting command needs.
    `turn` counts rounds and rotates the order, so that no agent is always served last.
    """
    willing = [
        _offer(room, min(room.credit, batch_size)) for room in rooms if room.credit > 0 or room.control_credit > 0
    ]
    if not willing:
        return []
    first = turn % len(willing)
    return willing[first:] + willing[:first]


def _offer(room: Room, commands: int) -> Offer:
    return Offer(room.agent_id, commands, room.control_credit, max(0, min(room.credit, room.needed) - commands))
