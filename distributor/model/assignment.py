"""Who is offered how much: decided here, carried out by the distributor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Offer(NamedTuple):
    """At most `most` commands for one agent."""

    agent_id: str
    most: int


def assign(room: Sequence[tuple[str, int]], batch_size: int, turn: int) -> list[Offer]:
    """Offers for agents with credit, at most `batch_size` commands each.

    `turn` counts rounds: the agent that comes first moves on by one each time, so that none is served last forever.
    """
    willing = [Offer(agent_id, min(credit, batch_size)) for agent_id, credit in room if credit > 0]
    if not willing:
        return []
    first = turn % len(willing)
    return willing[first:] + willing[:first]
