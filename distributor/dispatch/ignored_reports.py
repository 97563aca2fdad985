"""Logs at debug level which parts of an agent's message have no effect and why, for authors of agents.

The reasons come from the session, which knows what is in flight. If the store knows better, its answer says so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from distributor.model.agent_report import Answers, LeaseRef, Report
from distributor.model.agent_session import AgentSession
from distributor.model.delivery import CompletionOutcome
from distributor.model.in_flight import InFlight
from distributor.observability.logging import get_logger

logger = get_logger()

_TAKEN: Final = frozenset({CompletionOutcome.STORED, CompletionOutcome.RUN_AGAIN})


class Ignored(NamedTuple):
    """A part of a message that has no effect."""

    part: str
    command_id: str
    lease_id: str
    why: str


def ignored(session: AgentSession, report: Report) -> Iterator[Ignored]:
    """The parts of a report that have no effect. Call it before the report is handled."""
    yield from _repeated("received", session, report.received, lambda item: item.acknowledged is not None)
    yield from _repeated("started", session, report.started, lambda item: item.started is not None)
    yield from _refused(session, report)
    others = {
        "output": [LeaseRef(piece.command_id, piece.lease_id) for piece in report.outputs],
        "cancel_reports": [*report.not_found, *report.stopping],
    }
    for part, refs in others.items():
        for ref in refs:
            if not session.holds(*ref):
                yield Ignored(part, *ref, _absence(session, ref))
            elif part == "cancel_reports" and session.cancel_reason(*ref) is None:
                yield Ignored(part, *ref, "no cancel was sent")


def _refused(session: AgentSession, report: Report) -> Iterator[Ignored]:
    for ref, _, _ in report.refusals:
        if not session.holds(*ref):
            yield Ignored("refused", *ref, _absence(session, ref))
        elif ref in report.started or session.in_flight[ref.command_id].started is not None:
            yield Ignored("refused", *ref, "started before")


def _repeated(
    part: str, session: AgentSession, refs: Iterable[LeaseRef], is_known: Callable[[InFlight], bool]
) -> Iterator[Ignored]:
    said: set[LeaseRef] = set()
    for ref in refs:
        if not session.holds(*ref):
            yield Ignored(part, *ref, _absence(session, ref))
        elif is_known(session.in_flight[ref.command_id]) or ref in said:
            yield Ignored(part, *ref, "said before")
        said.add(ref)


def _absence(session: AgentSession, ref: LeaseRef) -> str:
    if ref.command_id not in session.in_flight:
        return "command not in flight"
    return "another lease is in flight" if ref.lease_id else "no lease"


def log_ignored(session: AgentSession, report: Report) -> None:
    """Log each part that has no effect. Call it before the report is handled. Free above the debug level."""
    if not logger.is_enabled_for(logging.DEBUG):
        return
    for part, command_id, lease_id, why in ignored(session, report):
        logger.debug(
            "part of a message ignored",
            agent_id=session.agent_id,
            part=part,
            command_id=command_id,
            lease_id=lease_id,
            why=why,
        )


def log_rejected(session: AgentSession, answers: Answers) -> None:
    """Log each result that did not become the result of its command."""
    if not logger.is_enabled_for(logging.DEBUG):
        return
    for lease, outcome, fault in answers.results:
        if outcome not in _TAKEN or fault.code:
            logger.debug(
                "result not kept",
                agent_id=session.agent_id,
                command_id=lease.command_id,
                outcome=outcome.value,
                reason=fault.code,
            )
