"""Checks reports from agents and stores them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Final

from distributor.dispatch.agent_output import AgentOutput
from distributor.dispatch.output_holds import OutputHolds
from distributor.dispatch.pending_receipts import PendingReceipts, progress, progress_of
from distributor.dispatch.ports import AttemptOutputLog, CommandStore
from distributor.dispatch.wakeups import Wakeups
from distributor.errors import DistributorError
from distributor.model.agent_report import (
    Answers,
    LeaseRef,
    OutputAnswer,
    Refusal,
    RefusalKind,
    Report,
    ReportedCompletion,
    ResultAnswer,
)
from distributor.model.agent_session import AgentSession
from distributor.model.command import MAX_REASON_MESSAGE, REASON_CODE_PATTERN, Reason
from distributor.model.delivery import CancelProgress, Completion, CompletionOutcome, Extension, OutputPiece, Release
from distributor.model.in_flight import InFlight
from distributor.model.lifecycle import TERMINAL, CancelStage, CommandStatus
from distributor.model.retry_policy import RetryPolicy
from distributor.observability.logging import get_logger
from distributor.wire.limits import MAX_OUTPUT_OFFSET

logger = get_logger()

_RETRYABLE: Final = frozenset({RefusalKind.BUSY, RefusalKind.STALE})


class AgentReports:
    """Stores reports. One call at a time per session, so that its reports are stored in order."""

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
        self._receipts = PendingReceipts(store)
        self._output = AgentOutput(output_log, holds)
        self._wakeups = wakeups
        self._retry_policy = retry_policy
        self._max_result_bytes = max_result_bytes
        self._random = random.Random()
        self._noting: set[asyncio.Task[None]] = set()

    async def handle(self, session: AgentSession, report: Report, now: float) -> Answers:
        """Store all parts of a report in order; `now` in monotonic milliseconds.

        Returns once everything is stored, except for receipts, which follow within milliseconds. Raises Unavailable if
        Valkey is away: the agent gets no reply, and reports again after it reattaches. Raises ProtocolViolation for
        output with a gap, or beyond the window.
        """
        progressed = _note_progress(session, report, now)
        rivals = _rivals(session, report.completions)
        if not report.outputs and not rivals:
            # Receipts of what ended in this message are stored with its result.
            for completion in report.completions:
                progressed.pop(completion.lease, None)
        if progressed:
            self._receipts.add(session, progressed)
        if report.refusals:
            await self._refused(session, report.refusals)
        if report.extensions:
            await self._extend(session, report.extensions)
        outputs = await self._outputs(session, report.outputs, now) if report.outputs else []
        if report.stopping or report.survivors:
            stages = _cancel_progress(session, report)
            if stages:
                await self._store.cancel_stages(stages)
        ended = report.completions or report.not_found
        results = await self._finish(session, report, rivals) if ended else []
        if session.takes_more:
            self._wakeups.wake(session.agent_id)
        if session.control_waiting and session.control_credit > 0:
            session.control_waiting = False
            self._wakeups.wake(session.agent_id, control=True)
        return Answers(results, outputs)

    async def _outputs(self, session: AgentSession, pieces: Sequence[OutputPiece], now: float) -> list[OutputAnswer]:
        started: dict[LeaseRef, None] = {}
        leases = [LeaseRef(piece.command_id, piece.lease_id) for piece in pieces]
        for piece, lease in zip(pieces, leases, strict=True):
            # Only a started command has output. Without its Started, it could be taken for undelivered.
            holds = session.output(*lease, piece.offset, len(piece.data))
            if session.started(*lease, now) if holds else session.started_given_up(*lease):
                started[lease] = None
        # In the same exchange, ahead of the output: it must not show before its command is known to run.
        started.update(dict.fromkeys(self._receipts.take(session, leases)))
        progressing = self._store.progress([progress_of(session, lease) for lease in started])
        try:
            return await self._output.append(session, pieces)
        finally:
            # Also if the append fails: what fails must be awaited, or asyncio warns.
            await progressing

    async def _extend(self, session: AgentSession, extensions: Sequence[Extension]) -> None:
        """Store extensions after the starts that they follow, in the same exchange."""
        leases = [LeaseRef(one.command_id, one.lease_id) for one in extensions]
        starts = [progress_of(session, lease) for lease in self._receipts.take(session, leases)]
        await asyncio.gather(self._store.progress(starts), self._store.extend(extensions))

    def cancels_written(self, session: AgentSession, leases: Sequence[LeaseRef]) -> None:
        """Note soon that these cancels were written to the session's stream."""
        noting = asyncio.create_task(self._note_delivered(session.agent_id, leases), name="note cancels")
        self._noting.add(noting)
        noting.add_done_callback(self._noting.discard)

    async def _note_delivered(self, agent_id: str, leases: Sequence[LeaseRef]) -> None:
        delivered = [CancelProgress(one.command_id, agent_id, one.lease_id, CancelStage.DELIVERED) for one in leases]
        try:
            await self._store.cancel_stages(delivered)
        except DistributorError as error:
            # Only what is shown of the cancel lags behind.
            logger.debug("cannot note that cancels were delivered", agent_id=agent_id, error=str(error))

    async def settle(self, session: AgentSession) -> None:
        """Store everything noted of a session, whose stream has ended or is to be superseded.

        Raises Unavailable if Valkey is away; it is then stored later.
        """
        await self._receipts.flush(session)

    async def _finish(self, session: AgentSession, report: Report, rivals: Sequence[LeaseRef]) -> list[ResultAnswer]:
        """Store results in one call: nothing may come between a result and its answer, as the command may run again."""
        # Ahead of the results, in the same exchange: a start decides between the results of two attempts.
        starts = [progress_of(session, lease) for lease in self._receipts.take(session, rivals)] if rivals else []
        reported = report.completions
        faults = [self._fault(completion) for completion in reported]
        # The agent has free room from now on, whatever the store does with the result.
        completions = [
            self._completion(session, completion, fault, session.ended(*completion.lease))
            for completion, fault in zip(reported, faults, strict=True)
        ]
        if report.not_found:
            completions += _not_found(session, report.not_found)
        # All other receipts are stored with the results.
        self._receipts.take(session, (LeaseRef(one.progress.command_id, one.progress.lease_id) for one in completions))
        if starts:
            _, outcomes = await asyncio.gather(self._store.progress(starts), self._store.finish(completions))
        else:
            outcomes = await self._store.finish(completions)
        return [
            ResultAnswer(completion.lease, outcome, fault or _FAULTS.get(outcome, _NO_FAULT))
            for completion, outcome, fault in zip(reported, outcomes[: len(reported)], faults, strict=True)
        ]

    def _completion(
        self, session: AgentSession, reported: ReportedCompletion, fault: Reason | None, item: InFlight | None
    ) -> Completion:
        reached = progress(session.agent_id, reported.lease, item)
        if fault is not None or reported.status is None:
            return Completion(
                reached,
                CommandStatus.FAILED,
                fault or Reason(),
                output_bytes=_output_bytes(reported, item),
                ran=True,
            )
        # Not beside processes of this run, which could do its work twice at once.
        rerun = reported.transient and reported.status is CommandStatus.FAILED and not reported.survivors
        # Never immediately: the agent must see this result acknowledged before it receives the next run.
        attempt = item.attempt if item is not None else session.attempt(reported.lease.command_id)
        rerun_delay_ms = max(1, self._delay_ms(attempt)) if rerun else None
        status, reason = _true_end(reported.status, reported)
        return Completion(
            reached,
            status,
            _storable(reason),
            reported.exit_code,
            reported.data_json,
            _output_bytes(reported, item),
            rerun_delay_ms,
            ran=True,
            data_gzip=reported.data_gzip,
            survived=bool(reported.survivors),
        )

    def _fault(self, reported: ReportedCompletion) -> Reason | None:
        """Why this result cannot be stored, or None. The command fails with this reason."""
        if reported.fault is not None:
            return reported.fault
        if reported.status not in TERMINAL:
            return Reason("invalid_result", "the agent reported a result with a non-terminal status")
        size = len(reported.data_json.encode())
        if size > self._max_result_bytes:
            return Reason(
                "result_too_large", f"the result's data is {size:,} bytes, the limit is {self._max_result_bytes:,}"
            )
        if not 0 <= reported.output_bytes < MAX_OUTPUT_OFFSET:
            return Reason("invalid_result", "the agent reported output_bytes outside 0 to 2^53 - 1")
        return None

    async def _refused(self, session: AgentSession, refusals: Sequence[Refusal]) -> None:
        releases, completions = [], []
        for lease, kind, reason in refusals:
            reached = progress_of(session, lease)
            given_up = session.is_given_up(*lease)
            if kind is RefusalKind.STALE:
                session.refused_as_stale(*lease)
            if not session.refused(*lease) and not given_up:
                # Not in flight, or started: nothing takes back a started command.
                continue
            self._receipts.take(session, [lease])
            stated = _storable(reason if reason.code else Reason(kind.value, reason.message))
            if kind in _RETRYABLE:
                if kind is RefusalKind.BUSY:
                    session.refused_as_busy()
                # Neither is a failed delivery, so repeated refusals do not increase the delay.
                delay_ms = self._delay_ms(1)
                releases.append(
                    Release(
                        lease.command_id,
                        session.agent_id,
                        lease.lease_id,
                        delay_ms,
                        stated,
                        counts=False,
                        refused=True,
                    )
                )
            else:
                status = CommandStatus.TIMEOUT if kind is RefusalKind.EXPIRED else CommandStatus.FAILED
                completions.append(Completion(reached, status, stated))
        await asyncio.gather(self._store.release(releases), self._store.finish(completions))

    def _delay_ms(self, attempt: int) -> int:
        return self._retry_policy.delay_ms(attempt, self._random.random())


_NO_FAULT: Final = Reason()
_FAULTS: Final = {
    CompletionOutcome.UNKNOWN: Reason("unknown_command", "there is no such command, or it is no longer kept"),
    CompletionOutcome.FOREIGN: Reason("foreign_command", "the command is another agent's"),
    CompletionOutcome.STALE: Reason("stale_lease", "the command has been reassigned since"),
}


def _note_progress(session: AgentSession, report: Report, now: float) -> dict[LeaseRef, None]:
    """Update the session. Return the commands that progressed, each once, in order of first mention."""
    progressed: dict[LeaseRef, None] = {}
    # A start implies the receipt, and an agent that starts at once reports both together.
    for lease in report.received if report.received != report.started else ():
        if session.received(lease.command_id, lease.lease_id, now) or session.is_given_up(*lease):
            progressed[lease] = None
    for lease in report.started:
        if session.started(lease.command_id, lease.lease_id, now) or session.started_given_up(*lease):
            progressed[lease] = None
    return progressed


def _output_bytes(reported: ReportedCompletion, item: InFlight | None) -> int:
    """Bytes of output to count: none that the agent neither sent nor announced, or readers would see a gap for them.

    Without the attempt in flight, the store decides.
    """
    most = item.output_end() if item is not None else MAX_OUTPUT_OFFSET - 1
    return max(0, min(reported.output_bytes, most))


def _rivals(session: AgentSession, reported: Sequence[ReportedCompletion]) -> list[LeaseRef]:
    """Attempts in flight of commands that have a result of another attempt."""
    rivals = []
    for completion in reported:
        command_id, lease_id = completion.lease
        item = session.in_flight.get(command_id)
        if item is not None and item.lease_id != lease_id:
            rivals.append(LeaseRef(command_id, item.lease_id))
    return rivals


def _not_found(session: AgentSession, not_found: Sequence[LeaseRef]) -> list[Completion]:
    """Completions for cancelled commands that the agent does not have.

    An answer to no cancel, or to that of another attempt, ends nothing.
    """
    completions = []
    for lease in not_found:
        reason = session.cancel_reason(*lease)
        if reason is not None:
            cancelled = _storable(Reason("cancelled", reason))
            reached = progress_of(session, lease)
            completions.append(Completion(reached, CommandStatus.CANCELLED, cancelled, absent=True))
        elif session.holds(*lease):
            continue
        session.ended(*lease)
    return completions


def _true_end(status: CommandStatus, reported: ReportedCompletion) -> tuple[CommandStatus, Reason]:
    """The status and reason of a reported end. A command whose processes still run is not published as stopped."""
    if not reported.survivors:
        return status, reported.reason
    if status in (CommandStatus.CANCELLED, CommandStatus.TIMEOUT):
        return CommandStatus.FAILED, Reason("could_not_stop", f"still running: {reported.survivors}")
    code, message = reported.reason
    return status, Reason(code, f"{message}; still running: {reported.survivors}") if code else reported.reason


def _cancel_progress(session: AgentSession, report: Report) -> list[CancelProgress]:
    """What cancels found. An answer to no cancel has no effect."""
    found = [(lease, CancelStage.STOPPING, "") for lease in report.stopping]
    found += [(lease, CancelStage.COULD_NOT_STOP, f"still running: {names}") for lease, names in report.survivors]
    return [
        CancelProgress(lease.command_id, session.agent_id, lease.lease_id, stage, message[:MAX_REASON_MESSAGE])
        for lease, stage, message in found
        if session.cancel_reason(*lease) is not None
    ]


def _storable(reason: Reason) -> Reason:
    """Make a reason storable: a valid code, a message of bounded length."""
    code, message = reason
    if not code and not message:
        return reason
    if code and not REASON_CODE_PATTERN.fullmatch(code):
        code = "unspecified"
    if len(message) > MAX_REASON_MESSAGE:
        message = message[: MAX_REASON_MESSAGE - 1] + "…"
    return Reason(code, message)
