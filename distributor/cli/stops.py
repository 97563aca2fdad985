"""`distributor stop`, `resume` and `stops`: the bodies of the commands."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

import click

from distributor.cli.exit_codes import ExitCode
from distributor.cli.one_line import one_line
from distributor.cli.sender.columns import format_table
from distributor.cli.sender.screen import Screen
from distributor.cli.sender.tables import short_time
from distributor.client.emergency_client import EmergencyClient
from distributor.errors import InvalidArgument
from distributor.model.command import InvalidField
from distributor.model.emergency_stop import EmergencyStop
from distributor.model.halt import AgentHalt, HaltStatus
from distributor.model.stop_request import scope_of
from distributor.model.stop_scope import StopScope
from distributor.wire.documents import stop_document, time_text

_ORDER: Final = (HaltStatus.REFUSED, HaltStatus.STOPPING, HaltStatus.UNREACHABLE, HaltStatus.CONFIRMED)
"""What needs attention comes first."""


def checked_scope(everything: bool, selectors: Sequence[str]) -> StopScope:
    """The scope of `--all` and `--on`. Raises UsageError unless exactly one is given."""
    if everything == bool(selectors):
        raise click.UsageError("give either --all or --on")
    try:
        return scope_of(everything, selectors)
    except InvalidField as error:
        raise InvalidArgument(str(error), field=error.field, reason=error.reason) from error


async def stop(client: EmergencyClient, screen: Screen, scope: StopScope, reason: str, seconds: float) -> ExitCode:
    """Stop, follow the agents, and show what each says. Return SUCCESS only if all have confirmed."""
    begun = await client.stop(scope, reason)
    if screen.for_people:
        screen.message(
            f"emergency stop {begun.stop_id} is in force for {begun.scope}; resume it with: "
            f"distributor resume {begun.stop_id}"
        )
    known = await _followed(client, screen, begun.stop_id, seconds)
    if screen.for_people:
        screen.text(agents_table(known))
    else:
        screen.document({"stop": stop_document(begun), "agents": [_agent_document(one) for one in _sorted(known)]})
    return exit_code(known)


async def resume(
    client: EmergencyClient, screen: Screen, stop_id: str, selectors: Sequence[str], everything: bool
) -> ExitCode:
    """End stops and show which."""
    ended = await client.resume(stop_id, selectors, everything)
    _show_stops(screen, ended)
    return ExitCode.SUCCESS


async def list_stops(client: EmergencyClient, screen: Screen) -> ExitCode:
    """Show the stops in force."""
    _show_stops(screen, await client.stops())
    return ExitCode.SUCCESS


def exit_code(known: Mapping[str, AgentHalt]) -> ExitCode:
    """SUCCESS if all have confirmed, TIMEOUT if some have not answered, else FAILED."""
    statuses = {one.status for one in known.values()}
    if HaltStatus.STOPPING in statuses:
        return ExitCode.TIMEOUT
    return ExitCode.SUCCESS if statuses <= {HaltStatus.CONFIRMED} else ExitCode.FAILED


def agents_table(known: Mapping[str, AgentHalt]) -> str:
    """A table of the agents, with those first that have not confirmed, and a line with their numbers."""
    agents = _sorted(known)
    counts = Counter(one.status for one in agents)
    total = ", ".join(f"{counts[status]} {status.value}" for status in _ORDER if counts[status]) or "no agent in scope"
    if not agents:
        return total
    table = {
        "agent": [one_line(one.agent_id) for one in agents],
        "status": [one.status.value for one in agents],
        "detail": [one_line(_detail(one)) for one in agents],
    }
    return f"{format_table(table)}\n{total}"


async def _followed(client: EmergencyClient, screen: Screen, stop_id: str, seconds: float) -> dict[str, AgentHalt]:
    known: dict[str, AgentHalt] = {}
    async with aclosing(client.watch(stop_id, seconds)) as reports:
        with _LiveTable(screen) as live:
            async for agents, _ in reports:
                known.update((one.agent_id, one) for one in agents)
                live.show(known)
    return known


class _LiveTable:
    """The table of agents, drawn again on each change while stderr is a terminal; else nothing."""

    def __init__(self, screen: Screen) -> None:
        self._drawn: Any = None
        if screen.for_people and screen.width is not None:
            from rich.console import Console
            from rich.live import Live

            self._drawn = Live(console=Console(stderr=True), transient=True, auto_refresh=False)

    def __enter__(self) -> _LiveTable:
        if self._drawn is not None:
            self._drawn.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn is not None:
            self._drawn.stop()

    def show(self, known: Mapping[str, AgentHalt]) -> None:
        """Draw it."""
        if self._drawn is not None:
            from rich.text import Text

            self._drawn.update(Text(agents_table(known)), refresh=True)


def _sorted(known: Mapping[str, AgentHalt]) -> list[AgentHalt]:
    return sorted(known.values(), key=lambda one: (_ORDER.index(one.status), one.agent_id))


def _detail(one: AgentHalt) -> str:
    if one.status is HaltStatus.UNREACHABLE:
        ends = f"ends everything itself by {time_text(one.orphan_ms)}" if one.orphan_ms else "has no orphan_after"
        return f"{one.reason.message}; {ends}" if one.reason.code == "away" else one.reason.message
    if one.reason.message:
        return one.reason.message
    return f"{len(one.running)} running" if one.running else ""


def _agent_document(one: AgentHalt) -> dict[str, Any]:
    return {
        "agentId": one.agent_id,
        "status": one.status.value,
        "reason": {"code": one.reason.code, "message": one.reason.message} if one.reason.code else None,
        "running": [{"commandId": run.command_id, "survivors": run.survivors} for run in one.running],
        "orphanTime": time_text(one.orphan_ms) if one.orphan_ms else None,
    }


def _show_stops(screen: Screen, stops: Sequence[EmergencyStop]) -> None:
    if not screen.for_people:
        screen.document([stop_document(stop) for stop in stops])
        return
    if not stops:
        screen.text("no emergency stop is in force")
        return
    now_ms = round(time.time() * 1000)
    table = {
        "stop": [one_line(stop.stop_id) for stop in stops],
        "since": [short_time(stop.since_ms, now_ms) for stop in stops],
        "by": [one_line(stop.stopped_by) for stop in stops],
        "for": [one_line(str(stop.scope)) for stop in stops],
        "reason": [one_line(stop.reason) for stop in stops],
    }
    screen.text(format_table(table))
