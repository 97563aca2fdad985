"""The exit codes of all programs."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from distributor import errors


class ExitCode(IntEnum):
    """An exit code. 130 and 141 are what shells report for SIGINT and SIGPIPE."""

    SUCCESS = 0
    FAILED = 1
    USAGE = 2
    TIMEOUT = 3
    NOT_FOUND = 4
    UNAVAILABLE = 5
    REFUSED = 6
    OUTPUT_LOST = 7
    INTERRUPTED = 130
    BROKEN_PIPE = 141


MEANINGS: Final[dict[ExitCode, str]] = {
    ExitCode.SUCCESS: "success; when waiting: every command completed; cancel --wait: every command stopped",
    ExitCode.FAILED: "a command failed, timed out, was cancelled, or may run after cancel --wait; or stdout failed",
    ExitCode.USAGE: "wrong usage: an argument or a setting",
    ExitCode.TIMEOUT: "--timeout passed before every command had ended",
    ExitCode.NOT_FOUND: "no such command or agent",
    ExitCode.UNAVAILABLE: "the server cannot be reached or cannot serve",
    ExitCode.REFUSED: "refused: invalid, not in this state, or a limit is reached",
    ExitCode.OUTPUT_LOST: "every command completed, but output was lost",
    ExitCode.INTERRUPTED: "interrupted by Ctrl-C; commands continue",
    ExitCode.BROKEN_PIPE: "the reader of standard output exited",
}

_BY_ERROR: Final[tuple[tuple[type[errors.DistributorError], ExitCode], ...]] = (
    (errors.InvalidArgument, ExitCode.REFUSED),
    (errors.NotFound, ExitCode.NOT_FOUND),
    (errors.AlreadyExists, ExitCode.REFUSED),
    (errors.FailedPrecondition, ExitCode.REFUSED),
    (errors.ResourceExhausted, ExitCode.REFUSED),
    (errors.Unauthenticated, ExitCode.REFUSED),
    (errors.PermissionDenied, ExitCode.REFUSED),
    (errors.Aborted, ExitCode.REFUSED),
    (errors.Unavailable, ExitCode.UNAVAILABLE),
    (errors.ConfigurationError, ExitCode.USAGE),
)


def exit_code_of(error: errors.DistributorError) -> ExitCode:
    """The exit code for `error`; UNAVAILABLE for errors not listed, which are failures of the server."""
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), ExitCode.UNAVAILABLE)


def exit_codes_help() -> str:
    """The table of exit codes for `--help`, one per line."""
    return "\n".join(f"{code:>5}  {meaning}" for code, meaning in MEANINGS.items())
