"""Stores the output that agents send, and decides what they may discard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from distributor.dispatch.output_holds import OutputHolds
from distributor.dispatch.ports import AttemptOutputLog
from distributor.errors import ResourceExhausted
from distributor.model.agent_report import LeaseRef, OutputAnswer
from distributor.model.agent_session import AgentSession
from distributor.model.command import Reason
from distributor.model.delivery import OutputPiece, OutputRefusal
from distributor.observability.logging import get_logger

logger = get_logger()


class AgentOutput:
    """Output of all agents of this replica. One call at a time per session, so that its output is stored in order."""

    def __init__(self, output_log: AttemptOutputLog, holds: OutputHolds | None) -> None:
        self._output_log = output_log
        self._holds = holds
        self._dropped_pieces = 0
        """Since output was stored last. A full store gets two lines in the log, not one for each message."""

    async def append(self, session: AgentSession, pieces: Sequence[OutputPiece]) -> list[OutputAnswer]:
        """Store pieces that the session has accepted; one answer for each lease, in order of first mention."""
        try:
            outcomes = await self._output_log.append(pieces)
        except ResourceExhausted as error:
            # Output may be dropped, results may not: a full store must still accept results. The log has a gap here.
            if not self._dropped_pieces:
                logger.warning("output is dropped", error=str(error))
            self._dropped_pieces += len(pieces)
            answers = _dropped(session, pieces)
        else:
            if self._dropped_pieces:
                logger.warning("output is stored again", dropped_pieces=self._dropped_pieces)
                self._dropped_pieces = 0
            answers = await self._stored(session, pieces, outcomes)
        for lease, offset, _ in answers.values():
            session.output_acknowledged(*lease, offset)
        return list(answers.values())

    async def _stored(
        self, session: AgentSession, pieces: Sequence[OutputPiece], outcomes: Sequence[int | OutputRefusal]
    ) -> dict[LeaseRef, OutputAnswer]:
        answers: dict[LeaseRef, OutputAnswer] = {}
        held: dict[LeaseRef, int] = {}
        for piece, outcome in zip(pieces, outcomes, strict=True):
            lease = LeaseRef(piece.command_id, piece.lease_id)
            if isinstance(outcome, OutputRefusal):
                answers[lease] = OutputAnswer(lease, 0, _FAULTS[outcome])
                continue
            answers[lease] = OutputAnswer(lease, outcome)
            # Output of an attempt that was given up is not slowed down: `base` is that of a later one.
            if self._holds is not None and self._holds.holds(piece.command_id) and session.holds(*lease):
                held[lease] = outcome
        for lease, stored in held.items():
            answers[lease] = OutputAnswer(lease, await self._acknowledgeable(session, lease, stored))
        return answers

    async def _acknowledgeable(self, session: AgentSession, lease: LeaseRef, stored: int) -> int:
        """Offset up to which the agent may discard stored output, given its readers."""
        assert self._holds is not None
        base = await self._output_log.base(lease.command_id)
        return self._holds.acknowledgeable(session, lease, base, stored)


def _dropped(session: AgentSession, pieces: Sequence[OutputPiece]) -> dict[LeaseRef, OutputAnswer]:
    """Let the agent discard what the store has no room for. Under any other lease, it may still be stored later."""
    answers: dict[LeaseRef, OutputAnswer] = {}
    for piece in pieces:
        lease = LeaseRef(piece.command_id, piece.lease_id)
        held = session.holds(*lease)
        end = piece.offset + len(piece.data)
        answers[lease] = OutputAnswer(lease, end) if held else OutputAnswer(lease, 0, _FAULTS[OutputRefusal.STALE])
    return answers


_FAULTS: Final = {
    OutputRefusal.STALE: Reason(OutputRefusal.STALE, "the command is not assigned under this lease"),
    OutputRefusal.ENDED: Reason(OutputRefusal.ENDED, "the command has ended"),
    OutputRefusal.UNKNOWN: Reason(OutputRefusal.UNKNOWN, "this agent has no such command, or it is no longer kept"),
}
