"""Every change of a command in the log, for those who ask for that much: at level debug."""

from __future__ import annotations

import logging

from distributor.dispatch.ports import Facts
from distributor.model.event import CommandChanged
from distributor.observability.logging import get_logger

logger = get_logger()


def log_transitions(facts: Facts) -> None:
    """A line for each command that changed. Costs one look at the level where nobody wants to know."""
    if not logger.is_enabled_for(logging.DEBUG):
        return
    for fact in facts.facts:
        event = fact.event()
        if isinstance(event, CommandChanged):
            state = event.state
            logger.debug(
                "command changed",
                kind=event.kind.value,
                status=state.status.value,
                command_id=state.command_id,
                agent_id=state.agent_id,
                attempt=state.attempt,
                reason=state.reason.code,
            )
