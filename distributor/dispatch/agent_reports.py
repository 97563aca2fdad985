"""What agents say about their commands, checked and brought to the store."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Final

from distributor.dispatch.output_holds import OutputHolds
from distributor.dispatch.ports import AttemptOutputLog, CommandStore
from distributor.dispatch.wakeups import Wakeups
from distributor.errors import ResourceExhausted
from distributor.model.agent_report import (
    Answers,
    LeaseRef,
    Refusal,
    RefusalKind,
    Report,
    ReportedCompletion,
    ResultAnswer,
)
from distributor.model.agent_session import AgentSession
from distributor.model.command import MAX_REASON_MESSAGE, REASON_CODE_PATTERN, Reason
from distributor.model.delivery import Completion, CompletionOutcome, OutputPiece, Progress, Release
from distributor.model.lifecycle import TERMINAL, CommandStatus
from distributor.model.retry_policy import RetryPolicy
from distributor.observability.logging import get_logger

logger = get_logger()

MOST_OUTPUT_BYTES: Final = 2**53
"""What the store's numbers hold exactly."""


_TRY_AGAIN: Final = frozenset({RefusalKind.BUSY, RefusalKind.STALE})


class AgentReports:
    """Takes reports to the store. One call at a time for each session, so its reports are stored in order."""

    def __init__(
        self,
        store: CommandStore,
        output_log: AttemptOutputLog,
        wakeups: Wakeups,
        retry_policy: RetryPolicy,
        max_result_bytes: int = 262_144,
        holds: OutputHolds | None = None,
    ) -> None:
        self._store = store
        self._output_log = output_log
        self._wakeups = wakeups
        self._retry_policy = retry_policy
        self._max_result_bytes = max_result_bytes
        self._holds = holds
        self._random = random.Random()

    async def handle(self, session: AgentSession, report: Report, now: float) -> Answers:
        """Store a report, its parts in the order in which the agent said them; `now` in monotonic milliseconds.

        Returns when everything in it is stored. Raises Unavailable when Valkey is away: nothing is answered then, and
        the agent reports again once it is attached anew.
        """
        progressed = _note_progress(session, report, now)
        # Receipts of what has ended already are stored with its result.
        for completion in report.completions:
            progressed.pop(completion.held, None)
        if progressed:
            await self._store.progress([_progress(session, held) for held in progressed])
        if report.refusals:
            await self._refused(session, report.refusals)
        output_answers = await self._append(session, report.outputs) if report.outputs else []
        ended = report.completions or report.not_found
        results = await self._finish(session, report.completions, report.not_found) if ended else []
        if session.more_waiting and session.credit > 0:
            self._wakeups.wake(session.agent_id)
        if session.control_waiting and session.control_credit > 0:
            session.control_waiting = False
            self._wakeups.wake(session.agent_id, control=True)
        return Answers(results, output_answers)

    async def _append(self, session: AgentSession, pieces: Sequence[OutputPiece]) -> list[tuple[str, int]]:
        try:
            safe = await self._output_log.append(pieces)
        except ResourceExhausted as error:
            # Output may be cut, results may not: a full store has to go on taking those. The log has a gap here.
            logger.warning("output is dropped", error=str(error))
            safe = [None] * len(pieces)
        answers: dict[str, int] = {}
        stored: dict[LeaseRef, int] = {}
        for piece, offset in zip(pieces, safe, strict=True):
            # Output of a command that is no longer the agent's is of no use to anybody: it may forget it.
            answers[piece.command_id] = piece.offset + len(piece.data) if offset is None else offset
            if offset is not None and self._holds is not None and self._holds.holds(piece.command_id):
                stored[LeaseRef(piece.command_id, piece.lease_id)] = offset
        for lease, offset in stored.items():
            answers[lease.command_id] = await self._acknowledgeable(session, lease, offset)
        return list(answers.items())

    async def _acknowledgeable(self, session: AgentSession, lease: LeaseRef, stored: int) -> int:
        """How much of the stored output the agent may forget now, as its readers permit."""
        assert self._holds is not None
        base = await self._output_log.base(lease.command_id)
        return self._holds.acknowledgeable(session, lease, base, stored)

    async def _finish(
        self, session: AgentSession, reported: Sequence[ReportedCompletion], not_found: Sequence[LeaseRef]
    ) -> list[ResultAnswer]:
        """Store in one call, so that nothing is waited for between a result and its answer: it may be run again."""
        faults = [self._fault(completion) for completion in reported]
        completions = [
            self._completion(session, completion, fault) for completion, fault in zip(reported, faults, strict=True)
        ]
        # The agent has room again from here on, whatever the store makes of the result.
        for completion in reported:
            session.ended(*completion.held)
        completions += _not_found(session, not_found)
        outcomes = await self._store.finish(completions)
        return [
            ResultAnswer(completion.held.command_id, outcome, fault or _FAULTS.get(outcome, Reason()))
            for completion, outcome, fault in zip(reported, outcomes[: len(reported)], faults, strict=True)
        ]

    def _completion(self, session: AgentSession, reported: ReportedCompletion, fault: Reason | None) -> Completion:
        progress = _progress(session, reported.held)
        if fault is not None or reported.status is None:
            return Completion(
                progress,
                CommandStatus.FAILED,
                fault or Reason(),
                output_bytes=min(max(0, reported.output_bytes), MOST_OUTPUT_BYTES - 1),
                ran=True,
            )
        worth_a_rerun = reported.transient and reported.status is CommandStatus.FAILED
        # Never at once: the agent must have heard that this run is stored before it hears of the next.
        rerun_delay_ms = max(1, self._delay_ms(session.attempt(reported.held.command_id))) if worth_a_rerun else None
        return Completion(
            progress,
            reported.status,
            _tidy(reported.reason),
            reported.exit_code,
            reported.data_json,
            reported.output_bytes,
            rerun_delay_ms,
            ran=True,
        )

    def _fault(self, reported: ReportedCompletion) -> Reason | None:
        """What makes this result one that cannot be kept; its command fails with this reason."""
        if reported.fault is not None:
            return reported.fault
        if reported.status not in TERMINAL:
            return Reason("invalid_result", "the agent reported a result whose status is not a terminal one")
        size = len(reported.data_json.encode())
        if size > self._max_result_bytes:
            return Reason(
                "result_too_large", f"the result's data is {size:,} bytes, the limit is {self._max_result_bytes:,}"
            )
        if not 0 <= reported.output_bytes < MOST_OUTPUT_BYTES:
            return Reason("invalid_result", "the agent reported a negative number of bytes of output, or 2^53 and more")
        return None

    async def _refused(self, session: AgentSession, refusals: Sequence[Refusal]) -> None:
        releases, completions = [], []
        for held, kind, reason in refusals:
            stated = _tidy(reason if reason.code else Reason(kind.value, reason.message))
            if kind in _TRY_AGAIN:
                busy = kind is RefusalKind.BUSY
                if busy:
                    session.refused_as_busy()
                # To be busy is no failure, however often: what the agent waits for is room.
                delay_ms = self._delay_ms(1 if busy else session.attempt(held.command_id))
                releases.append(
                    Release(held.command_id, session.agent_id, held.lease_id, delay_ms, stated, counts=not busy)
                )
            else:
                status = CommandStatus.TIMEOUT if kind is RefusalKind.EXPIRED else CommandStatus.FAILED
                completions.append(Completion(_progress(session, held), status, stated))
            session.ended(*held)
        await asyncio.gather(self._store.release(releases), self._store.finish(completions))

    def _delay_ms(self, attempt: int) -> int:
        return self._retry_policy.delay_ms(attempt, self._random.random())


_FAULTS: Final = {
    CompletionOutcome.UNKNOWN: Reason("unknown_command", "there is no such command, or it is no longer kept"),
    CompletionOutcome.FOREIGN: Reason("foreign_command", "the command is another agent's"),
    CompletionOutcome.STALE: Reason("stale_lease", "the command was given out again since"),
}


def _note_progress(session: AgentSession, report: Report, now: float) -> dict[LeaseRef, None]:
    """The commands that have come further, each once, in the order in which they are first named."""
    progressed: dict[LeaseRef, None] = {}
    for held in report.received:
        if session.received(held.command_id, held.lease_id, now):
            progressed[held] = None
    for held in report.started:
        if session.started(held.command_id, held.lease_id, now):
            progressed[held] = None
    return progressed


def _progress(session: AgentSession, held: LeaseRef) -> Progress:
    return Progress(held.command_id, session.agent_id, held.lease_id, *session.stages(held.command_id, held.lease_id))


def _not_found(session: AgentSession, not_found: Sequence[LeaseRef]) -> list[Completion]:
    """A cancel met nothing: the agent lost the command. A cancel of an earlier attempt says nothing of this one."""
    completions = []
    for held in not_found:
        if session.holds(*held):
            reason = Reason("cancelled", "cancelled; the agent did not have it")
            completions.append(Completion(_progress(session, held), CommandStatus.CANCELLED, reason))
        session.ended(*held)
    return completions


def _tidy(reason: Reason) -> Reason:
    """A reason that can be stored: a code that is a word, a message of bounded length."""
    code, message = reason
    if code and not REASON_CODE_PATTERN.fullmatch(code):
        code = "unspecified"
    if len(message) > MAX_REASON_MESSAGE:
        message = message[: MAX_REASON_MESSAGE - 1] + "…"
    return Reason(code, message)
