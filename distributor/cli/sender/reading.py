"""The actions that read: show commands, results and agents; also cancel."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from distributor.cli.exit_codes import ExitCode, exit_code_of
from distributor.cli.sender import tables
from distributor.cli.sender.cancel_texts import cancel_text
from distributor.cli.sender.screen import Screen
from distributor.client import AgentStatus, Command, CommandClient, CommandFilter, CommandResult, CommandState
from distributor.errors import DistributorError, Unauthenticated, Unavailable
from distributor.wire.documents import agent_document, command_document, result_document, state_document
from distributor.wire.limits import MAX_PAGE

T = TypeVar("T")


async def get(client: CommandClient, screen: Screen, command_ids: Sequence[str]) -> ExitCode:
    """Show commands with the time of each stage."""

    async def fetch(command_id: str) -> tuple[Command, CommandResult | None]:
        command = await client.get(command_id)
        ended = screen.for_people and command.state.status.terminal
        return command, await client.result(command_id) if ended else None

    return await _show_each(
        screen,
        command_ids,
        fetch,
        lambda _, found: command_document(found[0]),
        lambda _, found: tables.command_text(screen, *found),
    )


async def result(client: CommandClient, screen: Screen, command_ids: Sequence[str]) -> ExitCode:
    """Show how commands ended."""
    return await _show_each(
        screen,
        command_ids,
        client.result,
        lambda _, result: result_document(result),
        lambda _, result: tables.result_text(screen, result),
    )


async def cancel(client: CommandClient, screen: Screen, command_ids: Sequence[str], reason: str) -> ExitCode:
    """Cancel commands and show the outcome."""
    return await _show_each(
        screen,
        command_ids,
        lambda command_id: client.cancel(command_id, reason),
        lambda _, state: state_document(state),
        lambda command_id, state: f"{command_id} {cancel_text(state)}",
    )


async def list_commands(
    client: CommandClient, screen: Screen, where: CommandFilter, limit: int, page_token: str
) -> ExitCode:
    """Show up to `limit` commands, newest first, starting at `page_token`."""
    rows: list[CommandState] = []
    token = page_token
    while len(rows) < limit:
        page = await client.list_page(where, page_size=min(limit - len(rows), MAX_PAGE), page_token=token)
        rows += page.items
        token = page.next_page_token
        if not token:
            break
    if screen.for_people:
        screen.text(tables.states_table(screen, rows))
    elif screen.format == "json":
        screen.document({"commands": [state_document(row) for row in rows], "nextPageToken": token})
    else:
        for row in rows:
            screen.record(state_document(row))
    if token:
        screen.message(f"there are more: --page-token {token}")
    return ExitCode.SUCCESS


async def agents(
    client: CommandClient, screen: Screen, agent_id: str | None, statuses: Sequence[AgentStatus] = ()
) -> ExitCode:
    """Show every agent, those in one of `statuses`, or one."""
    if agent_id is not None:
        agent = await client.agent(agent_id)
        _show(screen, agent_document(agent), tables.agent_text(agent))
        return ExitCode.SUCCESS
    rows = [agent async for agent in client.agents(statuses)]
    if screen.for_people:
        screen.text(tables.agents_table(screen, rows))
    elif screen.format == "json":
        screen.document({"agents": [agent_document(row) for row in rows]})
    else:
        for row in rows:
            screen.record(agent_document(row))
    return ExitCode.SUCCESS


async def _show_each(
    screen: Screen,
    command_ids: Sequence[str],
    fetch: Callable[[str], Awaitable[T]],
    form: Callable[[str, T], dict[str, Any]],
    text: Callable[[str, T], str],
) -> ExitCode:
    """Show what `fetch` returns for each id. One that fails is shown as an error; the others still follow."""
    code = ExitCode.SUCCESS
    forms = []
    for number, command_id in enumerate(command_ids):
        try:
            value = await fetch(command_id)
        except (Unavailable, Unauthenticated):
            raise
        except DistributorError as error:
            screen.error(str(error))
            code = code or exit_code_of(error)
            continue
        if screen.for_people:
            screen.text(("\n" if number else "") + text(command_id, value))
        elif screen.format == "jsonl":
            screen.record(form(command_id, value))
        else:
            forms.append(form(command_id, value))
    if screen.format == "json" and (forms or len(command_ids) > 1):
        screen.document(forms[0] if len(command_ids) == 1 else forms)
    return code


def _show(screen: Screen, form: dict[str, Any], text: str) -> None:
    if screen.for_people:
        screen.text(text)
    elif screen.format == "json":
        screen.document(form)
    else:
        screen.record(form)
