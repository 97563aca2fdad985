"""How far a command of a session has come."""

from __future__ import annotations

from typing import Final, NamedTuple

from distributor.model.agent_session import AgentSession


class Stages(NamedTuple):
    """Milliseconds from the claim to each stage; None if not reached."""

    sent: int | None = None
    acknowledged: int | None = None
    started: int | None = None


NOTHING: Final = Stages()


def stages(session: AgentSession, command_id: str, lease_id: str) -> Stages:
    """The stages that this lease has reached; none if it is not in flight."""
    item = session.held(command_id, lease_id)
    return Stages(item.sent, item.acknowledged, item.started) if item is not None else NOTHING
