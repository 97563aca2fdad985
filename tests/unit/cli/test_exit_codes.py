"""Exit codes: one for each error of the tree, each documented."""

from __future__ import annotations

import pytest

from distributor import errors
from distributor.cli.exit_codes import MEANINGS, ExitCode, exit_code_of, exit_codes_help


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidArgument, 6),
        (errors.NotFound, 4),
        (errors.AlreadyExists, 6),
        (errors.FailedPrecondition, 6),
        (errors.ResourceExhausted, 6),
        (errors.Unauthenticated, 6),
        (errors.PermissionDenied, 6),
        (errors.Aborted, 6),
        (errors.Unavailable, 5),
        (errors.ConfigurationError, 2),
        (errors.DistributorError, 5),
    ],
)
def test_every_error_has_an_exit_code(error: type[errors.DistributorError], code: int) -> None:
    assert exit_code_of(error("x")) == code


def test_the_table_above_is_the_whole_tree() -> None:
    assert len(errors.DistributorError.__subclasses__()) == 10


def test_every_code_is_documented() -> None:
    assert set(MEANINGS) == set(ExitCode)
    assert all(f"{code:>5}  " in exit_codes_help() for code in ExitCode)
