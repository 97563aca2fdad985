"""Exit codes of --passthrough-exit-code: the program's own, or a shell's code if it has none."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from distributor.model.lifecycle import CommandStatus

if TYPE_CHECKING:
    from distributor.client import CommandResult


class PassedCode(IntEnum):
    """The codes of `timeout`, `env` and shells. A program may use them too: see the last line on stderr."""

    TIMEOUT = 124
    NOT_RUN = 125
    NOT_STARTED = 126
    NOT_FOUND = 127
    CANCELLED = 130


_BY_REASON: Final = {
    "program_not_found": PassedCode.NOT_FOUND,
    "program_not_started": PassedCode.NOT_STARTED,
    "program_not_allowed": PassedCode.NOT_STARTED,
    "exec_not_allowed": PassedCode.NOT_STARTED,
}
_BY_STATUS: Final = {CommandStatus.TIMEOUT: PassedCode.TIMEOUT, CommandStatus.CANCELLED: PassedCode.CANCELLED}


def passthrough_code(result: CommandResult, *, output_lost: bool) -> int:
    """The exit code of the program, 128 + n if signal n killed it, or a PassedCode if it has none."""
    code = result.exit_code
    if code is None and result.status is CommandStatus.COMPLETED:
        code = 0
    if code is None or not 0 <= code <= 255:
        return _BY_REASON.get(result.reason.code) or _BY_STATUS.get(result.status, PassedCode.NOT_RUN)
    return PassedCode.NOT_RUN if output_lost and code == 0 else code
