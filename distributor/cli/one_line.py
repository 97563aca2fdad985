"""Errors as a shell is told them: one line on stderr, and an exit code; of wrong usage too."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from distributor.cli.exit_codes import ExitCode, exit_code_of
from distributor.errors import DistributorError


def printable(text: str) -> str:
    """`text` with what is not printed escaped, newlines apart: foreign text must not drive the terminal.

    That is control characters (C0, DEL, C1), those that change the direction of text or are invisible, lone
    surrogates, and separators other than the space.
    """
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str) -> str:
    """`text` as `printable` has it, newlines escaped too: a cell of a table stays one."""
    return printable(text).replace("\n", "\\n")


def show_error(text: str, begin: str = "error") -> None:
    """One line on stderr that begins with `begin`."""
    click.echo(f"{begin}: {printable(' '.join(text.split()))}", err=True)


def exit_code_after(call: Callable[[], object], begin: str) -> int:
    """The exit code that `call`, a program, comes to; what it failed with is shown."""
    try:
        code = call()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "", err=True)
        return ExitCode.USAGE
    except click.ClickException as error:
        show_error(error.format_message(), begin)
        return ExitCode.USAGE
    except DistributorError as error:
        show_error(error.message, begin)
        return exit_code_of(error)
    except click.Abort:
        return ExitCode.INTERRUPTED
    return int(code) if isinstance(code, int) else ExitCode.SUCCESS


class OneLineCommand(click.Command):
    """A command whose errors are one line that begins with `begin`, when it is run as a program."""

    def __init__(self, *args: Any, begin: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self._begin = begin

    def invoke(self, ctx: click.Context) -> Any:
        """As click has it, but without an empty line for an interrupt."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise click.exceptions.Exit(ExitCode.INTERRUPTED) from error

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """As click has it, but for what is said of errors."""

        def run() -> Any:
            return super(OneLineCommand, self).main(args, prog_name, complete_var, standalone_mode=False, **extra)

        if not standalone_mode:
            return run()
        sys.exit(exit_code_after(run, self._begin))


class OneLineGroup(OneLineCommand, click.Group):
    """Several commands in one program, likewise."""
