"""What is said of a cancel that came after the end."""

from __future__ import annotations

import pytest

from distributor.cli.sender.cancel_texts import cancel_text, is_stopped
from distributor.client import CancelStage, CommandState, CommandStatus, Reason, Receipts


def ended(status: CommandStatus, code: str, stage: CancelStage | None = None) -> CommandState:
    """A command that ended so, before a cancel unless it has a stage."""
    cancel_ms = 1 if stage else 0
    reason = Reason(code, "why")
    return CommandState("c1", "a1", "PRINT", 50, status, 1, Receipts(), cancel_ms, reason, cancel_stage=stage)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (CommandStatus.TIMEOUT, "agent_lost"),
        (CommandStatus.FAILED, "outcome_unknown"),
        (CommandStatus.FAILED, "could_not_stop"),
        (CommandStatus.FAILED, "would_not_stop"),
    ],
)
def test_what_had_ended_and_may_run_is_not_stopped(status: CommandStatus, code: str) -> None:
    state = ended(status, code)
    assert not is_stopped(state)
    assert cancel_text(state) == f"had ended: {status}; why"


@pytest.mark.parametrize("code", ["", "exit_nonzero", "expired"])
def test_what_had_ended_otherwise_is_stopped(code: str) -> None:
    state = ended(CommandStatus.FAILED, code)
    assert is_stopped(state)
    assert cancel_text(state) == "had ended: failed"


def test_an_agent_that_says_that_nothing_runs_is_right() -> None:
    state = ended(CommandStatus.FAILED, "would_not_stop", CancelStage.STOPPED)
    assert is_stopped(state)
    assert cancel_text(state) == "ended before it was stopped: failed"
