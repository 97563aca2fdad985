"""What is known of each agent in the scope of an emergency stop. Times: ms by the store's clock."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from distributor.model.command import MAX_REASON_MESSAGE, Reason
from distributor.model.emergency_stop import EmergencyStop


class StillRunning(NamedTuple):
    """A command that runs on a halted agent; `survivors` are its processes that could not be ended, readable."""

    command_id: str
    survivors: str = ""


class HaltReport(NamedTuple):
    """The latest report of an agent about a halt. `since_ms` is that of the stop."""

    stop_id: str
    since_ms: int
    running: tuple[StillRunning, ...] = ()


class SessionHalt(NamedTuple):
    """The report of the agent's session `epoch`; None if it has resumed."""

    agent_id: str
    epoch: int
    report: HaltReport | None


class HaltStatus(StrEnum):
    """What is known of an agent in the scope of a stop."""

    STOPPING = "stopping"
    """Connected; it has not answered, or is ending commands."""
    CONFIRMED = "confirmed"
    """Nothing runs there, and nothing will start."""
    REFUSED = "refused"
    """Something runs, or may run, there."""
    UNREACHABLE = "unreachable"
    """Not connected."""


class HaltedSession(NamedTuple):
    """What is stored of an agent that matters to a stop. `orphan_ms` is when it ends everything itself, 0 for never."""

    agent_id: str
    known: bool
    present: bool
    knows_halts: bool
    report: HaltReport | None
    assigned: int
    away_since_ms: int = 0
    orphan_ms: int = 0


class AgentHalt(NamedTuple):
    """The part of a stop's report about one agent."""

    agent_id: str
    status: HaltStatus
    reason: Reason = Reason()
    running: tuple[StillRunning, ...] = ()
    orphan_ms: int = 0


def agent_halt(stop: EmergencyStop, session: HaltedSession) -> AgentHalt:
    """Decide what is known of an agent. A report on a later stop counts, as the earlier one was in force as well."""
    report = session.report
    if report is not None and report.since_ms < stop.since_ms:
        report = None
    if report is not None and not report.running:
        # Also while it is away: it starts nothing without a server.
        return AgentHalt(session.agent_id, HaltStatus.CONFIRMED)
    if not session.present:
        return _unreachable(session)
    if not session.knows_halts:
        return AgentHalt(session.agent_id, HaltStatus.REFUSED, Reason("unsupported_agent", _cancels(session.assigned)))
    running = report.running if report is not None else ()
    if any(one.survivors for one in running):
        message = "; ".join(f"{one.command_id}: {one.survivors}" for one in running if one.survivors)
        reason = Reason("could_not_stop", message[:MAX_REASON_MESSAGE])
        return AgentHalt(session.agent_id, HaltStatus.REFUSED, reason, running)
    return AgentHalt(session.agent_id, HaltStatus.STOPPING, Reason(), running)


def _unreachable(session: HaltedSession) -> AgentHalt:
    if not session.known:
        reason = Reason("never_connected", "it has never connected, or not for a long time")
    else:
        reason = Reason("away", f"it is not connected; it was given {session.assigned} commands that have not ended")
    return AgentHalt(session.agent_id, HaltStatus.UNREACHABLE, reason, orphan_ms=session.orphan_ms)


def _cancels(assigned: int) -> str:
    unanswered = f"{assigned} have not ended" if assigned else "all have ended"
    return f"it does not know emergency stops; each of its commands was cancelled, {unanswered}"
