"""What a shell is told of a program that ended."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from distributor import errors
from distributor.cli.one_line import OneLineCommand, OneLineGroup


@pytest.mark.parametrize(
    ("failure", "code", "told"),
    [
        (errors.NotFound("no\n such\x1b"), 4, "prog: no such\\x1b\n"),
        (click.UsageError("not so"), 2, "prog: not so\n"),
        (KeyboardInterrupt(), 130, ""),
        (click.Abort(), 130, ""),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_failure_is_one_line_and_an_exit_code(failure: BaseException, code: int, told: str, nested: bool) -> None:
    def fail() -> None:
        raise failure

    program = OneLineCommand("fail", callback=fail, prefix="prog")
    group = OneLineGroup("prog", commands=[click.Command("fail", callback=fail)], prefix="prog")

    shown = CliRunner().invoke(group, ["fail"]) if nested else CliRunner().invoke(program)

    assert (shown.exit_code, shown.stdout, shown.stderr) == (code, "", told)


@pytest.mark.parametrize("nested", [False, True])
def test_an_interrupt_while_arguments_are_parsed_is_quiet(nested: bool) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def program() -> OneLineCommand:
        return OneLineCommand("prog", params=[click.Option(["--flag"], callback=interrupt)], prefix="prog")

    group = OneLineGroup("prog", commands=[program()], prefix="prog")

    shown = CliRunner().invoke(group, ["prog"]) if nested else CliRunner().invoke(program())

    assert (shown.exit_code, shown.stdout, shown.stderr) == (130, "", "")


def test_an_exit_code_is_passed_on() -> None:
    assert CliRunner().invoke(OneLineCommand("prog", callback=lambda: 3, prefix="prog")).exit_code == 3
    assert CliRunner().invoke(OneLineCommand("prog", callback=lambda: None, prefix="prog")).exit_code == 0
