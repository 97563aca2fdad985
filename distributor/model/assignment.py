"""Who is offered how much: decided here, carried out by the distributor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Room(NamedTuple):
    """How many commands an agent may be given, and how many control commands beside them."""

    agent_id: str
    credit: int
    control_credit: int = 0


class Offer(NamedTuple):
    """At most `most` commands for one agent, and `most_control` control commands beside them."""

    agent_id: str
    most: int
    most_control: int = 0


def assign(rooms: Sequence[Room], batch_size: int, turn: int) -> list[Offer]:
    """Offers for agents with credit of either kind, at most `batch_size` commands each.

    `turn` counts rounds: the agent that comes first moves on by one each time, so that none is served last forever.
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
