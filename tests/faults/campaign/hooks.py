"""Kills or stops a process at a named point: its methods are wrapped by the launcher, the product knows nothing of it.

A point is armed by a file `POINT.SIGNAL` in the folder that CAMPAIGN_HOOKS names. The process that gets there removes
the file, so that each is used once, notes the bite in `bites`, and sends itself the signal.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import signal
from collections.abc import Callable, Mapping
from enum import Enum, auto
from pathlib import Path
from typing import Any, Final, NamedTuple

FOLDER: Final = "CAMPAIGN_HOOKS"
BITES: Final = "bites"
SIGNALS: Final = ("SIGKILL", "SIGSTOP")


class When(Enum):
    """When a method's call is at its point."""

    BEFORE = auto()
    AFTER = auto()
    ANSWERED = auto()
    """After the awaitable that it returns is done."""


Counts = Callable[..., bool]


class Point(NamedTuple):
    """A method, and which of its calls are at the point, by its arguments."""

    owner: str
    method: str
    when: When
    counts: Counts = lambda *_, **__: True


SERVER_POINTS: Final[Mapping[str, Point]] = {
    "after_claim": Point(
        "distributor.rpc.agent_stream:AgentStream", "deliver", When.BEFORE, lambda _, claim, *__: bool(claim.commands)
    ),
    "after_write": Point("distributor.model.agent_session:AgentSession", "sent", When.AFTER),
    "after_result": Point(
        "distributor.dispatch.agent_reports:AgentReports",
        "handle",
        When.BEFORE,
        lambda _, session, report, *__: bool(report.completions),
    ),
    "after_finish": Point(
        "distributor.store.command_store:ValkeyCommandStore",
        "finish",
        When.ANSWERED,
        lambda _, completions: bool(completions),
    ),
    "before_ack": Point(
        "distributor.rpc.agent_outbox:AgentOutbox", "answer", When.BEFORE, lambda _, answers: bool(answers.results)
    ),
}

AGENT_POINTS: Final[Mapping[str, Point]] = {
    "before_receiving": Point(
        "distributor.agent.session_state:SessionState",
        "receive",
        When.BEFORE,
        lambda _, message, *__: bool(message.commands.assignments),
    ),
    "before_starting": Point("distributor.agent.workload:Workload", "start", When.BEFORE),
    "while_running": Point("distributor.agent.process_group:ProcessGroup", "connection_made", When.AFTER),
    "after_finishing": Point("distributor.agent.record:CommandRecord", "finish", When.AFTER),
}


def install(points: Mapping[str, Point]) -> None:
    """Wrap the methods of `points`. Raises AttributeError or ImportError if one is no longer there."""
    folder = Path(os.environ[FOLDER])
    for name, point in points.items():
        owner = owner_of(point)
        bite = functools.partial(_bite, folder, name)
        setattr(owner, point.method, _wrapped(getattr(owner, point.method), point, bite))


def owner_of(point: Point) -> Any:
    """The class that has the method."""
    module, _, name = point.owner.partition(":")
    return getattr(importlib.import_module(module), name)


def arm(folder: Path, point: str, number: signal.Signals) -> None:
    """Have the next process that gets to `point` send itself a signal."""
    (folder / f"{point}.{number.name}").touch()


def bites(folder: Path) -> list[tuple[str, int]]:
    """Which points were reached while armed, and by which process, in order."""
    path = folder / BITES
    lines = path.read_text().splitlines() if path.exists() else []
    return [(line.split()[0], int(line.split()[1])) for line in lines]


def _bite(folder: Path, name: str) -> None:
    for number in SIGNALS:
        try:
            os.unlink(folder / f"{name}.{number}")
        except FileNotFoundError:
            continue
        with (folder / BITES).open("a") as file:
            file.write(f"{name} {os.getpid()}\n")
        os.kill(os.getpid(), signal.Signals[number])


def _wrapped(method: Callable[..., Any], point: Point, bite: Callable[[], None]) -> Callable[..., Any]:
    if point.when is When.ANSWERED:
        return _answered(method, point, bite)
    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            counts = point.counts(*args, **kwargs)
            if counts and point.when is When.BEFORE:
                bite()
            result = await method(*args, **kwargs)
            if counts and point.when is When.AFTER:
                bite()
            return result

        return awaited

    @functools.wraps(method)
    def called(*args: Any, **kwargs: Any) -> Any:
        counts = point.counts(*args, **kwargs)
        if counts and point.when is When.BEFORE:
            bite()
        result = method(*args, **kwargs)
        if counts and point.when is When.AFTER:
            bite()
        return result

    return called


def _answered(method: Callable[..., Any], point: Point, bite: Callable[[], None]) -> Callable[..., Any]:
    @functools.wraps(method)
    def called(*args: Any, **kwargs: Any) -> Any:
        return answered(method(*args, **kwargs), point.counts(*args, **kwargs))

    async def answered(awaitable: Any, counts: bool) -> Any:
        # Awaited where the caller awaits it. What the method does at once, it has done by now.
        result = await awaitable
        if counts:
            bite()
        return result

    return called
