"""The click commands of `command-sender`: parse arguments, then call an action.

Imports actions only after the arguments are valid: gRPC and the settings are slow to import, and `--help`, completion
and usage errors do not need them.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from distributor.cli.one_line import show_error
from distributor.cli.sender import arguments
from distributor.cli.sender.passthrough import PassedCode
from distributor.cli.sender.screen import Format
from distributor.cli.sender.secret_values import SECRET_PARAM
from distributor.cli.sender.send_options import SendOptions, WaitOptions
from distributor.cli.sender.server_calls import ServerCalls
from distributor.cli.shared_options import Option, caller_tls_options, with_options
from distributor.errors import DistributorError
from distributor.model.agent import AgentStatus
from distributor.model.command import MAX_RUNS, MAX_SLOTS, OfflinePolicy
from distributor.model.lifecycle import CommandStatus
from distributor.model.listing import CommandFilter

F = TypeVar("F", bound=Callable[..., Any])


def _one_of(words: type[StrEnum]) -> click.Choice[str]:
    # Given the enum itself, click would accept its names instead of its values.
    return click.Choice([word.value for word in words])


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    assert parameter.name is not None
    context.ensure_object(ServerCalls).set(parameter.name, value)


def connection_options(command: F) -> F:
    """Add the options of the server to call, which may stand before or after the name of the command."""
    options: list[Option] = [
        click.option(
            "--server",
            metavar="HOST:PORT[,…]",
            expose_value=False,
            callback=_remember,
            help="The server or servers to call. [env: DISTRIBUTOR_SERVER; default: that of the current context, else "
            "127.0.0.1:50051]",
        ),
        click.option(
            "--context",
            metavar="NAME",
            expose_value=False,
            callback=_remember,
            help="The context with the server and the credentials; see login.",
        ),
        *caller_tls_options(expose_value=False, callback=_remember),
        click.option(
            "--config",
            type=click.Path(path_type=Path, dir_okay=False),
            expose_value=False,
            callback=_remember,
            help="A TOML file with settings. [env: DISTRIBUTOR_CONFIG]",
        ),
    ]
    return cast("F", with_options(*options)(command))


output_option = click.option(
    "-o",
    "--output",
    type=_one_of(Format),
    default=Format.TABLE.value,
    show_default=True,
    help="A table for people, one JSON document, or a JSON document per line.",
)
ids_argument = click.argument("command_ids", metavar="ID...", type=arguments.COMMAND_ID, nargs=-1, required=True)


def wait_options(command: F) -> F:
    """Add the options of a wait."""
    for decorate in (
        click.option("--timeout", type=arguments.DURATION, help="Stop waiting after this long; the commands continue."),
        click.option(
            "--hold-output/--no-hold-output",
            default=None,
            help="Slow the program down instead of losing output when reading is slow. [default: if following one "
            "command]",
        ),
        click.option(
            "--passthrough-exit-code",
            is_flag=True,
            help="Exit as the remote program did: with its code, or 128+n if signal n killed it; 124 if the command "
            "timed out or --timeout passed, 126 if the program could not be started, 127 if it does not exist, 130 if "
            "the command was cancelled, 125 if it did not run for another reason or output was lost.",
        ),
    ):
        command = decorate(command)
    return command


def _passed_code(waiting: WaitOptions, run: Callable[[], int]) -> int:
    """Return the exit code of `run`; with --passthrough-exit-code, turn errors into a code reserved for them."""
    try:
        return run()
    except DistributorError as error:
        if not waiting.passthrough_exit_code:
            raise
        show_error(error.message)
        return PassedCode.NOT_RUN


class SendCommand(click.Command):
    """`send`, with a hint in the usage error if -- is missing before a program with options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as click does, adding the hint to errors."""
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
        """`args` from the first word that is neither an option of `send` nor the value of one."""
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
@click.option("--agent", type=arguments.AGENT_ID, multiple=True, help="An agent to run the command. May be repeated.")
@click.option("--type", type=arguments.TYPE, help="The handler to call, such as EXEC, PING or STOP.")
@click.option(
    "--params",
    type=arguments.PAIR,
    multiple=True,
    help="A parameter for the handler; the value is text. May be repeated.",
)
@click.option(
    "--params-json",
    type=arguments.JSON_OBJECT,
    multiple=True,
    metavar="JSON|@FILE|-",
    help="Parameters as a JSON object: literal, in a file, or on standard input.",
)
@click.option(
    "--secret-param",
    "secret_params",
    type=SECRET_PARAM,
    multiple=True,
    metavar="NAME=env:VARIABLE|@FILE|-",
    help="A text parameter that only the agent sees, from the environment, a file or standard input. May be repeated.",
)
@click.option(
    "--sign-key",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Sign the commands end to end with this private key, of distributor signing-key.",
)
@click.option("--sign-for", type=arguments.DURATION, help="How long agents accept the signature. [default: 1h]")
@click.option(
    "--input",
    type=arguments.INPUT_FILE,
    help="Queue a command per line: JSON with agentId, type, params, priority, timeLimitSeconds, idleLimitSeconds, "
    "queueTtlSeconds, offline, maxRuns, maxRunsByReason, slots, idempotencyKey, secretParams. Options apply to "
    "what a line leaves out. - is standard input.",
)
@click.option(
    "--repeat", type=click.IntRange(1, 100_000), default=1, metavar="N", help="Queue each command N times. [default: 1]"
)
@click.option("--priority", type=arguments.PRIORITY, help="0 to 100, low, normal or high; higher goes first.")
@click.option("--time-limit", type=arguments.DURATION, help="Time limit of each run.")
@click.option("--idle-limit", type=arguments.DURATION, help="Maximum time without output or progress. [default: none]")
@click.option("--queue-ttl", type=arguments.DURATION, help="Maximum time in the queue.")
@click.option("--offline", type=_one_of(OfflinePolicy), help="What to do if the agent is not connected.")
@click.option(
    "--slots",
    type=click.IntRange(1, MAX_SLOTS),
    metavar="N",
    help="How much of its agent's capacity each command uses. [default: 1]",
)
@click.option(
    "--max-runs",
    type=click.IntRange(1, MAX_RUNS),
    metavar="N",
    help="Number of runs permitted after failures that the agent reports as transient. [default: 1]",
)
@click.option(
    "--max-runs-for",
    type=arguments.RUNS,
    multiple=True,
    help="Number of runs permitted after failures with a reason, transient or not, as in exit_nonzero=5. May be "
    "repeated.",
)
@click.option(
    "--idempotency-key", type=arguments.IDEMPOTENCY_KEY, help="Queue once, even if sent repeatedly with this key."
)
@click.option("--wait", is_flag=True, help="Wait until every command has ended and show the results.")
@click.option("--follow", is_flag=True, help="Wait, and show output live.")
@wait_options
@output_option
@connection_options
@click.argument("argv", metavar="[-- PROGRAM [ARG]...]", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def send(connection: ServerCalls, /, output: str, sign_key: Path | None, sign_for: float | None, **given: Any) -> int:
    """Queue commands. This is the default COMMAND.

    Arguments after -- are a program to run, with its arguments: an EXEC command.

    \b
    command-sender --agent=agent123 --type=STOP --params=reason=test
    command-sender send --agent web-1 --agent web-2 --follow -- uname -a
    """
    waiting = WaitOptions(**{field.name: given.pop(field.name) for field in fields(WaitOptions)})
    requests = SendOptions(**given).requests()
    waiting.check(len(requests), output)
    if sign_for is not None and sign_key is None:
        raise click.UsageError("--sign-for needs --sign-key")
    connection.sign_with(sign_key, sign_for)

    from distributor.cli.sender import queueing

    return _passed_code(
        waiting,
        lambda: connection.run(output, lambda client, screen: queueing.send(client, screen, requests, waiting)),
    )


@click.command()
@ids_argument
@output_option
@connection_options
@click.pass_obj
def get(connection: ServerCalls, command_ids: Sequence[str], output: str) -> int:
    """Show commands: status, and the time of each stage."""
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


@click.command(short_help="Follow commands until they end, with all output.")
@ids_argument
@wait_options
@output_option
@connection_options
@click.pass_obj
def watch(connection: ServerCalls, /, command_ids: Sequence[str], output: str, **given: Any) -> int:
    """Follow commands until they end, with all output so far.

    With several commands, each line of output follows its agent's name and a mark: | a line, + the continuation of a
    line, ~ a line whose beginning may be lost.
    """
    waiting = WaitOptions(follow=True, **given)
    waiting.check(len(set(command_ids)), output)

    from distributor.cli.sender.command_wait import CommandWait

    return _passed_code(
        waiting,
        lambda: connection.run(output, lambda client, screen: CommandWait(client, screen, command_ids, waiting).run()),
    )


def filter_options(statuses: Sequence[CommandStatus]) -> Callable[[F], F]:
    """Add the options that choose commands, by one of `statuses` among others."""

    def add(command: F) -> F:
        for decorate in (
            click.option("--until", type=arguments.INSTANT, help="Only commands queued before this time."),
            click.option(
                "--since",
                type=arguments.INSTANT,
                help="Only commands queued at this time or later; 2h means two hours ago.",
            ),
            click.option("--type", type=arguments.TYPE, help="Only commands of this type."),
            click.option(
                "--status",
                type=click.Choice([status.value for status in statuses]),
                multiple=True,
                help="Only commands with this status. May be repeated.",
            ),
            click.option("--agent", type=arguments.AGENT_ID, help="Only commands of this agent."),
        ):
            command = decorate(command)
        return command

    return add


def _filter(given: dict[str, Any]) -> CommandFilter:
    """The filter that the options of `filter_options` give."""
    if given["since"] is not None and given["until"] is not None and given["until"] <= given["since"]:
        raise click.UsageError("--until must be after --since")
    return CommandFilter(
        agent_id=given["agent"] or "",
        statuses=tuple(CommandStatus(status) for status in given["status"]),
        type=given["type"] or "",
        queued_after_ms=given["since"],
        queued_before_ms=given["until"],
    )


@click.command(name="list")
@filter_options(list(CommandStatus))
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="Maximum number to show.")
@click.option("--page-token", default="", help="Continue a previous list.")
@output_option
@connection_options
@click.pass_obj
def list_commands(connection: ServerCalls, /, output: str, limit: int, page_token: str, **given: Any) -> int:
    """List commands, newest first."""
    where = _filter(given)
    from distributor.cli.sender import reading

    return connection.run(
        output, lambda client, screen: reading.list_commands(client, screen, where, limit, page_token)
    )


@click.command()
@ids_argument
@click.option("--reason", default="", help="The reason, stored with the command.")
@click.option(
    "--wait",
    is_flag=True,
    help="Wait until every command has ended or its agent could not stop it, and show each stage of the cancel. Exit "
    "with 1 if something may still run.",
)
@click.option("--timeout", type=arguments.DURATION, help="Stop waiting after this long; the cancels stay in effect.")
@output_option
@connection_options
@click.pass_obj
def cancel(connection: ServerCalls, /, command_ids: Sequence[str], output: str, **given: Any) -> int:
    """Cancel commands. Agents stop those that are running."""
    reason, timeout = given["reason"], given["timeout"]
    if timeout is not None and not given["wait"]:
        raise click.UsageError("--timeout needs --wait")
    if given["wait"]:
        from distributor.cli.sender.cancel_wait import CancelWait

        return connection.run(
            output, lambda client, screen: CancelWait(client, screen, command_ids).run(reason, timeout)
        )
    from distributor.cli.sender import reading

    return connection.run(output, lambda client, screen: reading.cancel(client, screen, command_ids, reason))


@click.command(short_help="Queue ended commands again, each as a new command.")
@click.argument("command_ids", metavar="[ID]...", type=arguments.COMMAND_ID, nargs=-1)
@filter_options([status for status in CommandStatus if status.terminal])
@click.option("--limit", type=click.IntRange(1, 1_000), help="At most this many, newest first. [default: 1000]")
@click.option("--dry-run", is_flag=True, help="Only count the commands.")
@click.option(
    "--idempotency-key",
    type=arguments.IDEMPOTENCY_KEY,
    help="Queue each command again once, even if sent repeatedly with this key.",
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask before queueing what the options match.")
@output_option
@connection_options
@click.pass_obj
def retry(connection: ServerCalls, /, command_ids: Sequence[str], output: str, **given: Any) -> int:
    """Queue ended commands again, each as a new command.

    Either by ID, or all that match the options: without --status, those that failed, timed out or were cancelled,
    whether they have been retried before or not. What the options match is counted first, and a question asked.

    \b
    command-sender retry --agent web-1 --since 2h --dry-run
    """
    where = _filter(given)
    if command_ids and (where != CommandFilter() or given["limit"]):
        raise click.UsageError("either ID or options that choose commands, not both")
    if not command_ids and where == CommandFilter():
        raise click.UsageError("Missing argument 'ID', or an option that chooses commands, such as --agent.")
    from distributor.cli.sender import retrying

    options = retrying.RetryOptions(
        command_ids, where, given["limit"] or 1_000, given["dry_run"], given["yes"], given["idempotency_key"] or ""
    )
    retrying.check_can_ask(options)
    return retrying.run(connection, output, options)


@click.command()
@click.argument("agent_id", metavar="[ID]", type=arguments.AGENT_ID, required=False)
@click.option(
    "--status", type=_one_of(AgentStatus), multiple=True, help="Only agents with this status. May be repeated."
)
@output_option
@connection_options
@click.pass_obj
def agents(connection: ServerCalls, agent_id: str | None, status: Sequence[str], output: str) -> int:
    """List agents, or show one."""
    if agent_id is not None and status:
        raise click.UsageError("either ID or --status, not both")
    from distributor.cli.sender import reading

    statuses = [AgentStatus(word) for word in status]
    return connection.run(output, lambda client, screen: reading.agents(client, screen, agent_id, statuses))


@click.command(short_help="Print a shell completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> int:
    """Print a shell completion script: eval "$(command-sender completion bash)"."""
    from click.shell_completion import get_completion_class

    name = context.find_root().info_name or ""
    kind = get_completion_class(shell)
    assert kind is not None
    variable = f"_{name}_COMPLETE".replace("-", "_").upper()
    click.echo(kind(context.find_root().command, {}, name, variable).source())
    return 0
