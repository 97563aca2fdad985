"""Commands in Valkey: one method per Lua function. Concurrent calls are batched."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final

from distributor.errors import Unavailable
from distributor.model.agent import AgentPresence
from distributor.model.command import CommandState
from distributor.model.delivery import (
    NOT_DELIVERED,
    CancelProgress,
    Claim,
    ClaimedCommand,
    ClaimRequest,
    Completion,
    CompletionOutcome,
    DueCommand,
    Extension,
    Progress,
    Release,
)
from distributor.model.lifecycle import CommandStatus, Operation, sources
from distributor.model.queueing import Enqueued, NewCommand, QueueOutcome
from distributor.store import rows
from distributor.store.exchanges import MAX_ITEMS_PER_CALL, Exchanges
from distributor.store.functions import Functions
from distributor.store.implied_events import assigned_events, finished_events, queued_events
from distributor.store.policy import StorePolicy
from distributor.store.stored_form import unpacked_claims
from distributor.store.valkey_connection import Argument

UNCLAIM_DELAY_MS: Final = 1_000
MAX_UNRELEASED: Final = 10_000
"""Failed releases that are repeated. The oldest beyond that are left to the ack deadline."""


class ValkeyCommandStore:
    """The CommandStore port on Valkey. Safe for concurrent use on one event loop."""

    def __init__(self, functions: Functions, exchanges: Exchanges, policy: StorePolicy) -> None:
        self._functions = functions
        self._exchanges = exchanges
        self._policy = policy
        self._enqueues = exchanges.queue("enqueue", self._enqueue_arguments, _enqueued, queued_events)
        self._claims = exchanges.queue("claim", self._claim_arguments, self._claimed, assigned_events)
        self._claims.undo = self._unclaim
        self._progress = exchanges.queue("progress", self._progress_arguments, _progressed)
        self._extensions = exchanges.queue("extend", self._extend_arguments, _extended)
        self._completions = exchanges.queue("finish", self._finish_arguments, _completion_outcomes, finished_events)
        self._unreleased: deque[Release] = deque(maxlen=MAX_UNRELEASED)
        self._releases = exchanges.queue("release", self._release_arguments, _released)

    @property
    def busy(self) -> bool:
        return self._exchanges.busy

    def enqueue(self, commands: Sequence[NewCommand]) -> Awaitable[list[Enqueued]]:
        return self._enqueues.submit(commands)

    def claim(self, requests: Sequence[ClaimRequest]) -> Awaitable[list[Claim]]:
        return self._claims.submit(requests)

    def unpack(self, claims: Sequence[Claim]) -> Awaitable[list[Claim]] | None:
        return unpacked_claims(claims)

    def progress(self, items: Sequence[Progress]) -> Awaitable[list[bool]]:
        return self._progress.submit(items)

    def extend(self, extensions: Sequence[Extension]) -> Awaitable[list[bool]]:
        return self._extensions.submit(extensions)

    def finish(self, completions: Sequence[Completion]) -> Awaitable[list[CompletionOutcome]]:
        self._exchanges.concurrency.ended(len(completions), time.monotonic())
        return self._completions.submit(completions)

    def release(self, releases: Sequence[Release]) -> Awaitable[list[CommandStatus | None]]:
        unsent = [item for item in releases if item.unsent]
        released = asyncio.ensure_future(self._releases.submit(releases))
        if unsent:
            released.add_done_callback(partial(self._retain_unsent, unsent))
        return released

    def _retain_unsent(self, releases: Sequence[Release], released: asyncio.Future[Any]) -> None:
        """Retain failed releases of commands never sent, to repeat them: only this replica knows that they were not.

        Repeating is safe: a lease that no longer holds its command releases nothing.
        """
        if not released.cancelled() and isinstance(released.exception(), Unavailable):
            self._unreleased.extend(releases)

    def _release_again(self) -> None:
        """Repeat the retained releases. They are retained again if they fail again."""
        releases = [self._unreleased.popleft() for _ in range(len(self._unreleased))]
        if releases:
            self.release(releases)

    def _enqueue_arguments(self, commands: list[NewCommand]) -> list[Argument]:
        policy = self._policy
        arguments: list[Argument] = [
            policy.queue_limit,
            policy.queue_full,
            policy.ageing_ms_per_priority * 1000,
            policy.idempotency_ms,
            policy.offline_after_ms,
            policy.retention_ms,
            _CANCEL_SOURCES,
            policy.caller_commands,
        ]
        for new in commands:
            arguments += (
                new.command_id,
                new.agent_id,
                new.type,
                new.priority,
                new.encoded,
                new.params_summary,
                new.time_limit_ms,
                new.queue_ttl_ms,
                new.offline,
                _max_runs(new),
                new.idempotency_key,
                new.digest,
                new.slots,
                rows.requester_text(new.requested_by),
            )
        return arguments

    def _claim_arguments(self, requests: list[ClaimRequest]) -> list[Argument]:
        arguments: list[Argument] = [
            self._policy.ack_deadline_ms,
            self._policy.max_claimed_bytes,
            _CLAIM_SOURCES,
            _OUTDATE_SOURCES,
            _EXPIRE_SOURCES,
            self._policy.retention_ms,
        ]
        for request in requests:
            arguments += (
                request.agent_id,
                request.epoch,
                request.max_commands,
                request.lease_id,
                request.max_control,
                request.max_commands + request.extra_slots,
            )
        return arguments

    def _claimed(self, requests: list[ClaimRequest], reply: Any) -> list[Claim]:
        claims = _claims(requests, reply)
        # Valkey answers.
        self._release_again()
        self._exchanges.concurrency.began(sum(len(claim.commands) for claim in claims), time.monotonic())
        return claims

    def _unclaim(self, requests: list[ClaimRequest], claims: Sequence[Claim]) -> None:
        """Release what was claimed but cannot be delivered, because the claim may not survive.

        If this fails, it is repeated after the next claim; else the ack deadline requeues it. The delay keeps a failing
        Valkey from being claimed from at once.
        """
        releases = [
            Release(
                item.command_id,
                claim.agent_id,
                claim.lease_id,
                UNCLAIM_DELAY_MS,
                NOT_DELIVERED,
                counts=False,
                unsent=True,
            )
            for claim in claims
            for item in claim.commands
        ]
        self.release(releases)

    def _progress_arguments(self, items: list[Progress]) -> list[Argument]:
        arguments: list[Argument] = [self._policy.run_limit_slack_ms, _FINISH_SOURCES]
        for item in items:
            receipts = _PAST_START if item.past_start else _receipts(item)
            arguments += (item.command_id, item.agent_id, item.lease_id, *receipts)
        return arguments

    def _extend_arguments(self, extensions: list[Extension]) -> list[Argument]:
        arguments: list[Argument] = [self._policy.run_limit_slack_ms, _FINISH_SOURCES]
        for extension in extensions:
            arguments += extension
        return arguments

    def _finish_arguments(self, completions: list[Completion]) -> list[Argument]:
        arguments: list[Argument] = [self._policy.retention_ms, _FINISH_SOURCES, _SETTLE_SOURCES]
        for completion in completions:
            progress = completion.progress
            arguments += (
                progress.command_id,
                progress.agent_id,
                progress.lease_id,
                completion.status,
                completion.reason.code,
                completion.reason.message,
                rows.result_members(completion),
                completion.output_bytes,
                "" if completion.rerun_delay_ms is None else completion.rerun_delay_ms,
                *_receipts(progress),
                _word(completion),
            )
        return arguments

    def _release_arguments(self, releases: list[Release]) -> list[Argument]:
        policy = self._policy
        arguments: list[Argument] = [
            policy.delivery_attempts,
            policy.retention_ms,
            policy.run_limit_slack_ms,
            _RELEASE_SOURCES,
        ]
        for item in releases:
            arguments += (
                item.command_id,
                item.agent_id,
                item.lease_id,
                item.delay_ms,
                item.reason.code,
                item.reason.message,
                "1" if item.counts else "0",
                "refused" if item.refused else "unsent" if item.unsent else "",
            )
        return arguments

    async def cancel(self, command_id: str, message: str) -> CommandState | None:
        arguments: list[Argument] = [self._policy.retention_ms, _CANCEL_SOURCES, _FINISH_SOURCES, command_id, message]
        (row,) = await self._functions.call("cancel", arguments)
        return rows.known_state(command_id, rows.text_row(row)) if row else None

    async def cancel_stages(self, items: Sequence[CancelProgress]) -> list[bool]:
        arguments: list[Argument] = [self._policy.run_limit_slack_ms, _FINISH_SOURCES]
        for item in items:
            arguments += item
        reply = await self._functions.call("cancel_stage", arguments, len(items))
        return [outcome == b"ok" for outcome in reply]

    async def due(
        self, delays_ms: Sequence[int], limit: int = MAX_ITEMS_PER_CALL
    ) -> tuple[int | None, list[DueCommand]]:
        policy = self._policy
        arguments: list[Argument] = [
            limit,
            policy.delivery_attempts,
            policy.retention_ms,
            policy.offline_after_ms,
            policy.run_limit_slack_ms,
            _EXPIRE_SOURCES,
            _RELEASE_SOURCES,
            *delays_ms,
        ]
        next_ms, *done = await self._functions.call("due", arguments)
        commands = [
            DueCommand(done[i].decode(), done[i + 1].decode(), CommandStatus(done[i + 2].decode()))
            for i in range(0, len(done), 3)
        ]
        return None if next_ms < 0 else next_ms, commands

    async def forget(self, after_agent_id: str, limit: int = 1_000) -> tuple[int, str]:
        commands, agents, next_after = await self._functions.call(
            "forget", [limit, limit, after_agent_id, self._policy.retention_ms]
        )
        return commands + agents, next_after.decode()


def _enqueued(commands: list[NewCommand], reply: Any) -> list[Enqueued]:
    now_ms, *outcomes = reply
    return [
        Enqueued(
            _QUEUE_OUTCOMES[outcome],
            command_id.decode(),
            now_ms,
            AgentPresence(known == 1, present == 1, int(away_since or 0)),
            int(detail[0]) if outcome == b"too_many_slots" else 0,
            detail[0].decode() if outcome == b"stopped" else "",
        )
        for outcome, command_id, known, present, away_since, *detail in outcomes
    ]


def _claims(requests: list[ClaimRequest], reply: Any) -> list[Claim]:
    now_ms, *replies = reply
    return [
        Claim(
            request.agent_id,
            request.epoch,
            request.lease_id,
            now_ms,
            one[0] != b"ok",
            _claimed_commands(one),
            one[1] if len(one) > 1 else 0,
            one[2] if len(one) > 1 else 0,
        )
        for request, one in zip(requests, replies, strict=True)
    ]


def _claimed_commands(one: list[Any]) -> list[ClaimedCommand]:
    commands = [ClaimedCommand(one[i].decode(), one[i + 1], one[i + 3]) for i in range(4, len(one), 4)]
    heavy = one[3] if len(one) > 3 else ()
    for place, slots in zip(heavy[::2], heavy[1::2], strict=True):
        commands[place] = commands[place]._replace(slots=slots)
    return commands


def _progressed(items: list[Progress], reply: Any) -> list[bool]:
    return [outcome == b"ok" for outcome in reply]


def _extended(extensions: list[Extension], reply: Any) -> list[bool]:
    return [outcome == b"ok" for outcome in reply]


def _completion_outcomes(completions: list[Completion], reply: Any) -> list[CompletionOutcome]:
    return [
        CompletionOutcome.STORED if type(outcome) is list else _COMPLETION_OUTCOMES[outcome]
        for outcome in islice(reply, 1, None)
    ]


def _released(releases: list[Release], reply: Any) -> list[CommandStatus | None]:
    return [None if outcome == b"gone" else CommandStatus(outcome.decode()) for outcome in reply]


def _states(operation: Operation) -> str:
    return ",".join(sources(operation))


_PAST_START: Final[tuple[Argument, Argument, Argument]] = ("", "", "past")
_CLAIM_SOURCES: Final = _states(Operation.CLAIM)
_RELEASE_SOURCES: Final = _states(Operation.RELEASE)
_FINISH_SOURCES: Final = _states(Operation.FINISH)
_SETTLE_SOURCES: Final = _states(Operation.SETTLE)
_OUTDATE_SOURCES: Final = _states(Operation.OUTDATE)
_CANCEL_SOURCES: Final = _states(Operation.CANCEL)
_EXPIRE_SOURCES: Final = _states(Operation.EXPIRE)
_QUEUE_OUTCOMES: Final = {outcome.value.encode(): outcome for outcome in QueueOutcome}
_COMPLETION_OUTCOMES: Final = {outcome.value.encode(): outcome for outcome in CompletionOutcome}


def _max_runs(new: NewCommand) -> Argument:
    """The number of runs, followed by the numbers for single reasons."""
    if not new.max_runs_by_reason:
        return new.max_runs
    return " ".join((str(new.max_runs), *(f"{code}={runs}" for code, runs in new.max_runs_by_reason)))


def _word(completion: Completion) -> str:
    """What the agent says of the handler."""
    if completion.ran:
        return "survived" if completion.survived else "ran"
    return "absent" if completion.absent else "refused"


def _receipts(item: Progress) -> tuple[Argument, Argument, Argument]:
    sent, acknowledged, started = item.sent_after_ms, item.acknowledged_after_ms, item.started_after_ms
    return (
        "" if sent is None else sent,
        "" if acknowledged is None else acknowledged,
        "" if started is None else started,
    )
