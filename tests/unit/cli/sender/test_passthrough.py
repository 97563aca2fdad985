"""Exit codes that are the program's own, or tell why there is none."""

from __future__ import annotations

import pytest

from distributor.cli.sender.passthrough import passthrough_code
from distributor.client import CommandResult, CommandStatus, Reason


def ended(status: CommandStatus, reason: str = "", exit_code: int | None = None) -> CommandResult:
    return CommandResult("c1", "a1", "EXEC", status, 1, Reason(reason), exit_code, None, 0, 0, 1)


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (ended(CommandStatus.COMPLETED, exit_code=0), 0),
        (ended(CommandStatus.COMPLETED), 0),
        (ended(CommandStatus.FAILED, "exit_nonzero", 3), 3),
        (ended(CommandStatus.FAILED, "killed_by_signal", 143), 143),
        (ended(CommandStatus.TIMEOUT, "time_limit"), 124),
        (ended(CommandStatus.TIMEOUT, "expired"), 124),
        (ended(CommandStatus.FAILED, "program_not_found"), 127),
        (ended(CommandStatus.FAILED, "program_not_allowed"), 126),
        (ended(CommandStatus.FAILED, "program_not_started"), 126),
        (ended(CommandStatus.FAILED, "exec_not_allowed"), 126),
        (ended(CommandStatus.FAILED, "outcome_unknown"), 125),
        (ended(CommandStatus.FAILED, "odd", -11), 125),
        (ended(CommandStatus.CANCELLED, "cancelled"), 130),
    ],
)
def test_code(result: CommandResult, code: int) -> None:
    assert passthrough_code(result, output_lost=False) == code


@pytest.mark.parametrize(("exit_code", "code"), [(0, 125), (3, 3)])
def test_success_is_not_told_where_output_was_lost(exit_code: int, code: int) -> None:
    result = ended(CommandStatus.COMPLETED if exit_code == 0 else CommandStatus.FAILED, exit_code=exit_code)
    assert passthrough_code(result, output_lost=True) == code
