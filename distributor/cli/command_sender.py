"""`command-sender`: queue and follow commands from a shell."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import click
from click.shell_completion import CompletionItem

from distributor import __version__
from distributor.cli.exit_codes import exit_codes_help
from distributor.cli.one_line import OneLineGroup, exit_code_after
from distributor.cli.sender import commands, context_commands, login_commands
from distributor.cli.sender.server_calls import cannot_write

NAME: Final = "command-sender"
_PREFIX: Final = "error"
_PRECEDENCE: Final = """\b
Server and credentials: the first of these that names a server.
  --context NAME           that context; the environment and the settings
                           file do not count, options do
  --server, DISTRIBUTOR_SERVER, or server in the settings file
                           options > environment > settings file
  the current context      options > environment > settings file > context
A context's credentials go to another server only with both --context and
--server."""
_EPILOG: Final = f"{_PRECEDENCE}\n\n\b\nExit codes:\n{exit_codes_help()}"


class SenderGroup(OneLineGroup):
    """A click group whose default command is `send`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert `send` if the first argument that is not an option of the group is another option."""
        index = self._command_index(ctx, args)
        if args[index:] and args[index].startswith("-"):
            args = [*args[:index], "send", *args[index:]]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Completions, including the options of `send`."""
        items = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-"):
            known = {item.value for item in items}
            of_send = click.Context(commands.send, parent=ctx, info_name=commands.send.name)
            items += [item for item in commands.send.shell_complete(of_send, incomplete) if item.value not in known]
        return items

    def _command_index(self, ctx: click.Context, args: Sequence[str]) -> int:
        own = {name: option for option in self.get_params(ctx) for name in option.opts}
        index = 0
        while index < len(args):
            name, equals, _ = args[index].partition("=")
            option = own.get(name)
            if option is None:
                break
            takes_next = not equals and not (isinstance(option, click.Option) and option.is_flag)
            index += 2 if takes_next else 1
        return index


@click.group(cls=SenderGroup, prefix=_PREFIX, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=NAME)
@commands.connection_options
def command_sender() -> None:
    """Queue commands for agents, follow them, and show their results.

    Data goes to standard output, messages to standard error.
    """


for _command in (
    commands.send,
    commands.get,
    commands.result,
    commands.watch,
    commands.list_commands,
    commands.cancel,
    commands.retry,
    commands.agents,
    login_commands.login,
    login_commands.logout,
    login_commands.whoami,
    context_commands.context,
    commands.completion,
):
    command_sender.add_command(_command)


def run(arguments: Sequence[str]) -> int:
    """Run with `arguments` and return the exit code."""
    try:
        return exit_code_after(
            lambda: command_sender.main(list(arguments), prog_name=NAME, standalone_mode=False), _PREFIX
        )
    except OSError as error:
        return cannot_write(error)


def main() -> NoReturn:
    """Run with the arguments of the process."""
    # gRPC reads this at import. Without it, gRPC logs to stderr whenever a server goes away.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # noqa: TID251 - set for grpc, not read here
    sys.exit(run(sys.argv[1:]))
