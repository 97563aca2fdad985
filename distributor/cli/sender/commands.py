"""The commands of `command-sender` as click sees them: arguments in, a call of what does it.

What does it is imported only once the arguments are known to be right: gRPC and the settings are slow to import, and
`--help`, completion and wrong usage do not need them.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import click

from distributor.cli.one_line import show_error
from distributor.cli.sender import arguments
from distributor.cli.sender.passthrough import PassedCode
from distributor.cli.sender.running import ServerCalls
from distributor.cli.sender.screen import Format
from distributor.cli.sender.send_options import SendOptions, WaitOptions
from distributor.errors import DistributorError
from distributor.model.command import OfflinePolicy
from distributor.model.lifecycle import CommandStatus

F = TypeVar("F", bound=Callable[..., Any])


def _one_of(words: type[StrEnum]) -> click.Choice[str]:
    # Given the enum itself, click would want its names in place of its values.
    return click.Choice([word.value for word in words])


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    assert parameter.name is not None
    context.ensure_object(ServerCalls).set(parameter.name, value)


def connection_options(command: F) -> F:
    """--server and --config, which every command takes, before or after its name."""
    for decorate in (
        click.option(
            "--server",
            metavar="HOST:PORT",
            expose_value=False,
            callback=_remember,
            help="The server to call. [env: DISTRIBUTOR_SERVER; default: 127.0.0.1:50051]",
        ),
        click.option(
            "--config",
            type=click.Path(path_type=Path, dir_okay=False),
            expose_value=False,
            callback=_remember,
            help="A TOML file with settings. [env: DISTRIBUTOR_CONFIG]",
        ),
    ):
        command = decorate(command)
    return command


output_option = click.option(
    "-o",
    "--output",
    type=_one_of(Format),
    default=Format.TABLE.value,
    show_default=True,
    help="A table for people, one JSON document, or a JSON document per line.",
)
ids_argument = click.argument("command_ids", metavar="ID...", type=arguments.COMMAND_ID, nargs=-1, required=True)


def stay_options(command: F) -> F:
    """What bounds a wait and what its exit code tells."""
    for decorate in (
        click.option("--timeout", type=arguments.DURATION, help="Stop waiting after this long; the commands continue."),
        click.option(
            "--hold-output/--no-hold-output",
            default=None,
            help="Slow the program down rather than lose output that was not read yet. [default: when following one "
            "command]",
        ),
        click.option(
            "--passthrough-exit-code",
            is_flag=True,
            help="Exit as the remote program did: with its code, or 128+n if signal n killed it; 124 if the command "
            "timed out or --timeout passed, 126 if the program could not be started, 127 if there is none, 130 if the "
            "command was cancelled, 125 if anything else kept it from running or output was lost.",
        ),
    ):
        command = decorate(command)
    return command


def _passed(waiting: WaitOptions, run: Callable[[], int]) -> int:
    """The exit code of `run`; its errors must not look like exit codes of the program where those are passed on."""
    try:
        return run()
    except DistributorError as error:
        if not waiting.passthrough_exit_code:
            raise
        show_error(error.message)
        return PassedCode.NOT_RUN


class SendCommand(click.Command):
    """`send`, which knows what is meant where a program with options stands without -- before it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click has it, with a hint in the error."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            program = [] if "--" in given else self._program(ctx, given)
            if not program:
                raise
            hint = f"a program with options goes after --, as in: -- {shlex.join(program)}"
            raise click.UsageError(f"{error.format_message().rstrip('.')}; {hint}", ctx) from error

    def _program(self, ctx: click.Context, args: list[str]) -> list[str]:
        """What of `args` is neither an option of ours nor the value of one, from its first word on."""
        first = next((place for place in range(len(args)) if self._is_word(ctx, args[: place + 1])), None)
        return [] if first is None else args[first:]

    def _is_word(self, ctx: click.Context, args: list[str]) -> bool:
        *before, last = args
        if last.startswith("-"):
            return False
        values = {
            name
            for option in self.get_params(ctx)
            if isinstance(option, click.Option) and not option.is_flag
            for name in option.opts
        }
        return not before or before[-1] not in values


@click.command(cls=SendCommand)
@click.option("--agent", type=arguments.AGENT_ID, multiple=True, help="The agent to run it. May be repeated.")
@click.option("--type", type=arguments.TYPE, help="The handler to call, such as EXEC, PING or STOP.")
@click.option(
    "--params",
    type=arguments.PAIR,
    multiple=True,
    help="A param of the handler; the value stays text. May be repeated.",
)
@click.option(
    "--params-json",
    type=arguments.JSON_OBJECT,
    multiple=True,
    metavar="JSON|@FILE|-",
    help="Params as a JSON object: itself, in a file, or on standard input.",
)
@click.option(
    "--input",
    type=arguments.INPUT_FILE,
    help="Queue a command for each line: JSON with agentId, type, params, priority, timeLimit, queueTtl, offline, "
    "maxRuns, idempotencyKey. What a line leaves out is taken from the options. - is standard input.",
)
@click.option(
    "--repeat", type=click.IntRange(1, 100_000), default=1, metavar="N", help="Queue each command N times. [default: 1]"
)
@click.option("--priority", type=arguments.PRIORITY, help="0 to 100, low, normal or high; higher first.")
@click.option("--time-limit", type=arguments.DURATION, help="Time limit of each run.")
@click.option("--queue-ttl", type=arguments.DURATION, help="Longest wait in the queue.")
@click.option("--offline", type=_one_of(OfflinePolicy), help="What to do while the agent is not connected.")
@click.option("--idempotency-key", type=arguments.IDEMPOTENCY_KEY, help="Queue once, however often this is sent.")
@click.option("--wait", is_flag=True, help="Wait until every command has ended and show the results.")
@click.option("--follow", is_flag=True, help="Wait, and show output live.")
@stay_options
@output_option
@connection_options
@click.argument("argv", metavar="[-- PROGRAM [ARG]...]", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def send(connection: ServerCalls, /, output: str, **given: Any) -> int:
    """Queue commands. This is what command-sender does when no COMMAND is named.

    What follows -- is a program to run, with its arguments: an EXEC command.

    \b
    command-sender --agent=agent123 --type=STOP --params=reason=test
    command-sender send --agent web-1 --agent web-2 --follow -- uname -a
    """
    waiting = WaitOptions(**{field.name: given.pop(field.name) for field in fields(WaitOptions)})
    drafts = SendOptions(**given).drafts()
    waiting.check(len(drafts), output)

    from distributor.cli.sender import queueing

    return _passed(
        waiting,
        lambda: connection.run(output, lambda client, screen: queueing.send(client, screen, drafts, waiting)),
    )


@click.command()
@ids_argument
@output_option
@connection_options
@click.pass_obj
def get(connection: ServerCalls, command_ids: Sequence[str], output: str) -> int:
    """Show commands: status, and when each stage was passed."""
    from distributor.cli.sender import reading

    return connection.run(output, lambda client, screen: reading.get(client, screen, command_ids))


@click.command()
@ids_argument
@output_option
@connection_options
@click.pass_obj
def result(connection: ServerCalls, command_ids: Sequence[str], output: str) -> int:
    """Show how commands ended."""
    from distributor.cli.sender import reading

    return connection.run(output, lambda client, screen: reading.result(client, screen, command_ids))


@click.command(short_help="Follow commands to their end, with all of their output.")
@ids_argument
@stay_options
@output_option
@connection_options
@click.pass_obj
def watch(connection: ServerCalls, /, command_ids: Sequence[str], output: str, **given: Any) -> int:
    """Follow commands to their end, with all of their output so far.

    The output of several commands is shown by lines, each after its agent's name and a mark: | a line, + more of the
    line before, ~ a line whose beginning may be lost.
    """
    waiting = WaitOptions(follow=True, **given)
    waiting.check(len(set(command_ids)), output)

    from distributor.cli.sender.staying import Stay

    return _passed(
        waiting,
        lambda: connection.run(output, lambda client, screen: Stay(client, screen, command_ids, waiting).run()),
    )


@click.command(name="list")
@click.option("--agent", type=arguments.AGENT_ID, help="Only commands of this agent.")
@click.option("--status", type=_one_of(CommandStatus), multiple=True, help="Only these. May be repeated.")
@click.option("--type", type=arguments.TYPE, help="Only commands of this type.")
@click.option("--since", type=arguments.INSTANT, help="Queued at this time or later; 2h means two hours ago.")
@click.option("--until", type=arguments.INSTANT, help="Queued before this time.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="Show at most this many.")
@click.option("--page-token", default="", help="Continue an earlier list.")
@output_option
@connection_options
@click.pass_obj
def list_commands(connection: ServerCalls, /, output: str, limit: int, page_token: str, **given: Any) -> int:
    """List commands, newest first."""
    if given["since"] is not None and given["until"] is not None and given["until"] <= given["since"]:
        raise click.UsageError("--until must be after --since")
    from distributor.cli.sender import reading
    from distributor.client import CommandFilter

    where = CommandFilter(
        agent_id=given["agent"] or "",
        statuses=[CommandStatus(status) for status in given["status"]],
        type=given["type"] or "",
        queued_after_ms=given["since"] or 0,
        queued_before_ms=given["until"] or 0,
    )
    return connection.run(
        output, lambda client, screen: reading.list_commands(client, screen, where, limit, page_token)
    )


@click.command()
@ids_argument
@click.option("--reason", default="", help="A reason for people, kept with the command.")
@output_option
@connection_options
@click.pass_obj
def cancel(connection: ServerCalls, command_ids: Sequence[str], reason: str, output: str) -> int:
    """Cancel commands. The agent stops those that run."""
    from distributor.cli.sender import reading

    return connection.run(output, lambda client, screen: reading.cancel(client, screen, command_ids, reason))


@click.command()
@click.argument("agent_id", metavar="[ID]", type=arguments.AGENT_ID, required=False)
@output_option
@connection_options
@click.pass_obj
def agents(connection: ServerCalls, agent_id: str | None, output: str) -> int:
    """List agents, or show one."""
    from distributor.cli.sender import reading

    return connection.run(output, lambda client, screen: reading.agents(client, screen, agent_id))


@click.command(short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> int:
    """Print the completion script of a shell: eval "$(command-sender completion bash)"."""
    from click.shell_completion import get_completion_class

    name = context.find_root().info_name or ""
    kind = get_completion_class(shell)
    assert kind is not None
    variable = f"_{name}_COMPLETE".replace("-", "_").upper()
    click.echo(kind(context.find_root().command, {}, name, variable).source())
    return 0
