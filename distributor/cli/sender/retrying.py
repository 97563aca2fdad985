"""The action that queues ended commands again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TextIO

import click

from distributor.cli.exit_codes import ExitCode, exit_code_of
from distributor.cli.sender.screen import Screen
from distributor.cli.sender.server_calls import ServerCalls
from distributor.cli.sender.tables import count_of
from distributor.client import CommandClient, CommandFilter, Retried, Retries
from distributor.errors import DistributorError
from distributor.wire.documents import error_document


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """Which commands to queue again: those with `command_ids`, or up to `limit` that match `where`."""

    command_ids: Sequence[str]
    where: CommandFilter
    limit: int
    dry_run: bool
    yes: bool
    idempotency_key: str

    @property
    def asks(self) -> bool:
        """Whether to ask before anything is queued: a filter may match more than was meant."""
        return not (self.command_ids or self.dry_run or self.yes)


def check_can_ask(options: RetryOptions) -> None:
    """Raise UsageError if there is a question to ask, and no terminal to ask it on."""
    if options.asks and not (sys.stdin is not None and sys.stdin.isatty()):
        raise click.UsageError(
            "without a terminal to ask on, add --yes to queue what matches again, or --dry-run to only count it"
        )


def run(connection: ServerCalls, output: str, options: RetryOptions) -> int:
    """Queue ended commands again, or count them; ask first if `options` say so. Returns the exit code."""

    async def retry(client: CommandClient, screen: Screen) -> ExitCode:
        if options.asks:
            counted = await _retries(client, options, dry_run=True)
            screen.message(_count_text(counted, options.limit))
            if not counted.matched or not await _agreed("Queue them again?"):
                return ExitCode.SUCCESS
        return await _retry(client, screen, options)

    return connection.run(output, retry)


async def _agreed(question: str) -> bool:
    """Ask on the terminal. Not by `click.confirm`, which writes a space to stdout."""
    click.echo(f"{question} [y/N]: ", nl=False, err=True)
    # Reading at once could miss a Ctrl-C: one that comes just before the system call does not interrupt it.
    await _readable(sys.stdin)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


async def _readable(file: TextIO) -> None:
    # Slow to import; see commands.py.
    import asyncio

    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(file, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(file)


async def _retry(client: CommandClient, screen: Screen, options: RetryOptions) -> ExitCode:
    retries = await _retries(client, options, dry_run=options.dry_run)
    if not options.dry_run:
        return _show(screen, retries, options.limit)
    _show_count(screen, retries, options.limit)
    return ExitCode.SUCCESS


async def _retries(client: CommandClient, options: RetryOptions, *, dry_run: bool) -> Retries:
    limit = 0 if options.command_ids else options.limit
    return await client.retry_commands(
        options.command_ids, options.where, limit=limit, dry_run=dry_run, idempotency_key=options.idempotency_key
    )


def _show_count(screen: Screen, counted: Retries, limit: int) -> None:
    if screen.for_people:
        screen.text(_count_text(counted, limit))
    else:
        form = {"matched": counted.matched, "more": counted.more}
        (screen.document if screen.format == "json" else screen.record)(form)


def _count_text(counted: Retries, limit: int) -> str:
    more = f"; more match than the --limit of {limit:,}" if counted.more else ""
    return f"{count_of(counted.matched, 'command')} can be queued again{more}"


def _show(screen: Screen, retries: Retries, limit: int) -> ExitCode:
    errors = {one.command_id: one.outcome for one in retries.commands if isinstance(one.outcome, DistributorError)}
    if screen.for_people:
        for one in retries.commands:
            if isinstance(one.outcome, str):
                screen.text(f"{one.command_id} → {one.outcome}")
    elif screen.format == "json":
        forms = [_document(one) for one in retries.commands]
        screen.document({"commands": forms, "matched": retries.matched, "more": retries.more})
    else:
        for one in retries.commands:
            screen.record(_document(one))
    for command_id, error in errors.items():
        screen.error(f"{command_id} was not queued again: {error}")
    if not retries.commands:
        screen.message("no ended command matches, nothing was queued")
    if retries.more:
        screen.message(f"more match than the --limit of {limit:,}")
    return next((exit_code_of(error) for error in errors.values()), ExitCode.SUCCESS)


def _document(retried: Retried) -> dict[str, Any]:
    failed = isinstance(retried.outcome, DistributorError)
    return {
        "commandId": retried.command_id,
        "newCommandId": None if failed else retried.outcome,
        "error": error_document(retried.outcome) if isinstance(retried.outcome, DistributorError) else None,
    }
