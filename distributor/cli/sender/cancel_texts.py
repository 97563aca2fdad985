"""What to say of a cancel: how far it has got, and what came of it."""

from __future__ import annotations

from typing import Final

from distributor.cli.one_line import one_line
from distributor.client import CancelStage, CommandState, CommandStatus

STAGE_TEXTS: Final = {
    CancelStage.REQUESTED: "not sent to the agent yet",
    CancelStage.DELIVERED: "sent to the agent",
    CancelStage.STOPPING: "the agent is stopping it",
    CancelStage.COULD_NOT_STOP: "the agent could not stop it",
    CancelStage.UNCONFIRMED: "whether it runs is not known",
    CancelStage.STOPPED: "nothing of it runs",
}


_MAY_RUN: Final = frozenset({"agent_lost", "outcome_unknown", "could_not_stop", "would_not_stop"})
"""Reasons of an end that says nothing of whether the command still runs, or that it does."""


def cancel_text(state: CommandState) -> str:
    """What a cancel has led to so far, as a phrase to follow the id of the command."""
    stage, why = state.cancel_stage, one_line(state.reason.message)
    if state.status.terminal:
        return _end_text(state, why)
    if stage is CancelStage.UNCONFIRMED:
        return "may be running: its agent has not acknowledged it and will be asked to stop it"
    if stage is CancelStage.COULD_NOT_STOP:
        return f"could not be stopped: {why}"
    return "is being stopped by its agent" if stage is CancelStage.STOPPING else "will be stopped by its agent"


def _end_text(state: CommandState, why: str) -> str:
    if state.status is CommandStatus.CANCELLED:
        return "is cancelled"
    end = "had ended" if not state.cancel_ms else "ended before it was stopped" if is_stopped(state) else "ended"
    return f"{end}: {state.status}" if is_stopped(state) else f"{end}: {state.status}; {why}"


def is_stopped(state: CommandState) -> bool:
    """Whether the command has ended and nothing of it runs, as far as is known."""
    stopped = state.cancel_stage is CancelStage.STOPPED
    return state.status.terminal and (stopped or (state.cancel_stage is None and state.reason.code not in _MAY_RUN))
