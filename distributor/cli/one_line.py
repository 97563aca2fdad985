"""Errors as one line on stderr and an exit code, usage errors included."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from distributor.cli.exit_codes import ExitCode, exit_code_of
from distributor.errors import DistributorError


def printable(text: str) -> str:
    """`text` with unprintable characters other than newlines escaped, so that foreign text cannot drive the terminal.

    Unprintable are control characters (C0, DEL, C1), bidi and invisible characters, lone surrogates, and separators
    other than the space.
    """
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str) -> str:
    """`text` as from `printable`, with newlines escaped too, for a table cell."""
    return printable(text).replace("\n", "\\n")


def show_error(text: str, prefix: str = "error") -> None:
    """Write `text` to stderr as one line that begins with `prefix`."""
    click.echo(f"{prefix}: {printable(' '.join(text.split()))}", err=True)


def exit_code_after(call: Callable[[], object], prefix: str) -> int:
    """Call a program and return its exit code; show its error, if any."""
    try:
        code = call()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "", err=True)
        return ExitCode.USAGE
    except click.ClickException as error:
        show_error(error.format_message(), prefix)
        return ExitCode.USAGE
    except DistributorError as error:
        show_error(error.message, prefix)
        return exit_code_of(error)
    except click.Abort:
        return ExitCode.INTERRUPTED
    return int(code) if isinstance(code, int) else ExitCode.SUCCESS


class OneLineCommand(click.Command):
    """A click command that shows its errors as one line beginning with `prefix`, when run as a program."""

    def __init__(self, *args: Any, prefix: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self._prefix = prefix

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """Parse the arguments; unlike click, print no empty line for an interrupt."""
        try:
            return super().make_context(*args, **options)
        except KeyboardInterrupt as error:
            raise click.exceptions.Exit(ExitCode.INTERRUPTED) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Invoke the command; unlike click, print no empty line for an interrupt."""
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
        """Run the command; unlike click, show errors on one line."""

        def run() -> Any:
            return super(OneLineCommand, self).main(args, prog_name, complete_var, standalone_mode=False, **extra)

        if not standalone_mode:
            return run()
        sys.exit(exit_code_after(run, self._prefix))


class OneLineGroup(OneLineCommand, click.Group):
    """A click group that shows its errors the same way."""
