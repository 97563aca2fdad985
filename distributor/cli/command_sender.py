"""`command-sender`: queues commands and follows them from a shell."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import click

from distributor import __version__
from distributor.cli.exit_codes import ExitCode, exit_codes_help
from distributor.cli.sender import commands
from distributor.cli.sender.running import cannot_write
from distributor.cli.sender.screen import show_error

NAME: Final = "command-sender"
_EPILOG: Final = f"\b\nExit codes:\n{exit_codes_help()}"


class SenderGroup(click.Group):
    """Commands of which `send` need not be named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Name `send` where options that are not the group's stand in place of a command."""
        place = self._place_of_command(ctx, args)
        if args[place:] and args[place].startswith("-"):
            args = [*args[:place], "send", *args[place:]]
        return super().parse_args(ctx, args)

    def _place_of_command(self, ctx: click.Context, args: Sequence[str]) -> int:
        own = {name: option for option in self.get_params(ctx) for name in option.opts}
        place = 0
        while place < len(args):
            name, equals, _ = args[place].partition("=")
            option = own.get(name)
            if option is None:
                break
            takes_next = not equals and not (isinstance(option, click.Option) and option.is_flag)
            place += 2 if takes_next else 1
        return place


@click.group(cls=SenderGroup, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=NAME)
@commands.connection_options
def command_sender() -> None:
    """Queue commands for agents, follow them, and look at what became of them.

    Data goes to standard output, messages to standard error.
    """


for _command in (
    commands.send,
    commands.get,
    commands.result,
    commands.watch,
    commands.list_commands,
    commands.cancel,
    commands.agents,
    commands.completion,
):
    command_sender.add_command(_command)


def run(arguments: Sequence[str]) -> int:
    """The exit code of a call with `arguments`."""
    try:
        return int(command_sender.main(list(arguments), prog_name=NAME, standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "", err=True)
    except click.ClickException as error:
        show_error(error.format_message())
    except click.Abort:
        return ExitCode.INTERRUPTED
    except OSError as error:
        return cannot_write(error)
    return ExitCode.USAGE


def main() -> NoReturn:
    """Run with the arguments of the process."""
    # grpc would log on stderr when a server goes away; it looks at this when it is first imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # noqa: TID251 - told to grpc, not read by us
    sys.exit(run(sys.argv[1:]))
