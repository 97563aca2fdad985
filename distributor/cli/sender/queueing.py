"""Queues commands, reports the outcome of each, and waits for them on request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from distributor.cli.exit_codes import ExitCode, exit_code_of
from distributor.cli.sender.command_wait import CommandWait
from distributor.cli.sender.screen import Screen
from distributor.cli.sender.send_options import WaitOptions
from distributor.cli.sender.tables import agent_absence, count_of, some_of
from distributor.client import CommandClient, CommandRequest, CommandStatus, Queued, QueuedCommand
from distributor.errors import DistributorError
from distributor.wire.documents import command_document, error_document

_ERRORS_SHOWN = 10


async def send(
    client: CommandClient, screen: Screen, requests: Sequence[CommandRequest], options: WaitOptions
) -> ExitCode | int:
    """Queue commands."""
    if len(requests) == 1:
        return await _send_one(client, screen, requests[0], options)
    return await _send_many(client, screen, requests, options)


async def _send_one(
    client: CommandClient, screen: Screen, request: CommandRequest, options: WaitOptions
) -> ExitCode | int:
    queued = await client.queue(request, hold_output=options.holds_output(1))
    if options.waits:
        screen.message(_queued_text(queued))
        return await CommandWait(client, screen, [queued.command_id], options).run()
    if screen.for_people:
        screen.text(_queued_text(queued))
        screen.message(f"watch it with: command-sender watch {queued.command_id}")
    else:
        form = command_document(queued.command) | {"alreadyQueued": queued.already_queued}
        (screen.document if screen.format == "json" else screen.record)(form)
    return ExitCode.SUCCESS


async def _send_many(
    client: CommandClient, screen: Screen, requests: Sequence[CommandRequest], options: WaitOptions
) -> ExitCode | int:
    outcomes = await client.queue_many(requests)
    queued = [outcome for outcome in outcomes if isinstance(outcome, Queued)]
    refusals = [outcome for outcome in outcomes if isinstance(outcome, DistributorError)]
    if not options.waits:
        _show_outcomes(screen, list(zip(requests, outcomes, strict=True)))
    agents = len({request.agent_id for request in requests})
    screen.message(f"queued {len(queued):,} of {count_of(len(requests), 'command')} for {count_of(agents, 'agent')}")
    _show_unknown_agents(screen, requests, outcomes)
    _show_refusals(screen, requests, outcomes)
    code: ExitCode | int = ExitCode.SUCCESS
    if options.waits and queued:
        code = await CommandWait(client, screen, [one.command_id for one in queued], options).run()
    return exit_code_of(refusals[0]) if refusals else code


def _show_outcomes(screen: Screen, outcomes: Sequence[tuple[CommandRequest, Queued | DistributorError]]) -> None:
    if screen.for_people:
        for request, outcome in outcomes:
            if isinstance(outcome, Queued):
                screen.text(_outcome_text(request, outcome))
        return
    forms = [_outcome_document(request, outcome) for request, outcome in outcomes]
    if screen.format == "json":
        screen.document(forms)
    else:
        for form in forms:
            screen.record(form)


def _show_unknown_agents(
    screen: Screen, requests: Sequence[CommandRequest], outcomes: Sequence[Queued | DistributorError]
) -> None:
    """Name the agents that have never connected: their ids may be misspelt."""
    unknown = dict.fromkeys(
        request.agent_id
        for request, outcome in zip(requests, outcomes, strict=True)
        if isinstance(outcome, Queued) and not outcome.agent_known
    )
    if unknown:
        verb = "agent {} has" if len(unknown) == 1 else "agents {} have"
        screen.message(f"the {verb.format(some_of(list(unknown)))} never connected")


def _show_refusals(
    screen: Screen, requests: Sequence[CommandRequest], outcomes: Sequence[Queued | DistributorError]
) -> None:
    lines = Counter(
        f"{request.type} for {request.agent_id} was not queued: {outcome}"
        for request, outcome in zip(requests, outcomes, strict=True)
        if isinstance(outcome, DistributorError)
    )
    for line, count in list(lines.items())[:_ERRORS_SHOWN]:
        screen.error(line + (f" ({count:,} times)" if count > 1 else ""))
    hidden = sum(list(lines.values())[_ERRORS_SHOWN:])
    if hidden:
        screen.error(f"{count_of(hidden, 'more command')} not queued")


def _queued_text(queued: QueuedCommand) -> str:
    state = queued.command.state
    verb = "was queued before" if queued.already_queued else "queued"
    if state.status is not CommandStatus.QUEUED:
        rest = f"and {state.status} by now"
    elif absence := agent_absence(state):
        rest = f"(the agent {absence}; the command waits for it)"
    else:
        rest = "(the agent is connected)"
    return f"{state.command_id} {verb}: {state.type} for {state.agent_id} {rest}"


def _outcome_text(request: CommandRequest, queued: Queued) -> str:
    verb = "was queued before" if queued.already_queued else "queued"
    absence = "is away" if queued.agent_known else "has never connected"
    whereabouts = "is connected" if queued.agent_connected else f"{absence}; the command waits for it"
    return f"{queued.command_id} {verb}: {request.type} for {request.agent_id} (the agent {whereabouts})"


def _outcome_document(request: CommandRequest, outcome: Queued | DistributorError) -> dict[str, Any]:
    if isinstance(outcome, DistributorError):
        refused = {"commandId": None, "agentId": request.agent_id, "type": request.type}
        return refused | {"error": error_document(outcome)}
    return {
        "commandId": outcome.command_id,
        "agentId": request.agent_id,
        "type": request.type,
        "status": CommandStatus.QUEUED.value,
        "alreadyQueued": outcome.already_queued,
        "agentConnected": outcome.agent_connected,
        "agentKnown": outcome.agent_known,
    }
