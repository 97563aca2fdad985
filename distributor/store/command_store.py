"""Commands in Valkey: one method per Lua function. Concurrent calls are batched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from distributor.model.agent import AgentPresence
from distributor.model.command import CommandState
from distributor.model.delivery import (
    Claim,
    ClaimedCommand,
    ClaimRequest,
    Completion,
    CompletionOutcome,
    DueCommand,
    Progress,
    Release,
)
from distributor.model.lifecycle import TERMINAL, CommandStatus, Operation, sources
from distributor.model.queueing import Enqueued, NewCommand, QueueOutcome
from distributor.store import rows
from distributor.store.functions import Functions
from distributor.store.group_commit import GroupCommit
from distributor.store.policy import StorePolicy
from distributor.store.valkey_connection import Argument

MAX_ITEMS_PER_CALL: Final = 250
"""Commands per function call: enough to share its cost, few enough to block Valkey only for milliseconds."""


class ValkeyCommandStore:
    """The CommandStore port on Valkey. Safe for concurrent use on one event loop."""

    def __init__(self, functions: Functions, replica: str, policy: StorePolicy) -> None:
        self._functions = functions
        self._policy = policy
        self._head: list[Argument] = [replica, policy.events_kept]
        self._enqueues = GroupCommit(self._send_enqueues, MAX_ITEMS_PER_CALL)
        self._claims = GroupCommit(self._send_claims, MAX_ITEMS_PER_CALL)
        self._progress = GroupCommit(self._send_progress, MAX_ITEMS_PER_CALL)
        self._completions = GroupCommit(self._send_completions, MAX_ITEMS_PER_CALL)
        self._releases = GroupCommit(self._send_releases, MAX_ITEMS_PER_CALL)

    async def idle(self) -> None:
        """Return once no call is in progress."""
        for group in (self._enqueues, self._claims, self._progress, self._completions, self._releases):
            await group.idle()

    async def enqueue(self, commands: Sequence[NewCommand]) -> list[Enqueued]:
        return await self._enqueues.submit(commands)

    async def _send_enqueues(self, commands: list[NewCommand]) -> list[Enqueued]:
        policy = self._policy
        arguments: list[Argument] = [
            *self._head,
            policy.queue_limit,
            policy.queue_full,
            policy.ageing_ms_per_priority * 1000,
            policy.idempotency_ms,
            policy.offline_after_ms,
            policy.retention_ms,
            _CANCEL_SOURCES,
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
                new.max_runs,
                new.idempotency_key,
                new.digest,
            )
        now_ms, *outcomes = await self._functions.call("enqueue", arguments, len(commands))
        return [
            Enqueued(
                _QUEUE_OUTCOMES[outcome],
                command_id.decode(),
                now_ms,
                AgentPresence(known == 1, present == 1, int(away_since or 0)),
            )
            for outcome, command_id, known, present, away_since in outcomes
        ]

    async def claim(self, requests: Sequence[ClaimRequest]) -> list[Claim]:
        return await self._claims.submit(requests)

    async def _send_claims(self, requests: list[ClaimRequest]) -> list[Claim]:
        arguments: list[Argument] = [
            *self._head,
            self._policy.ack_deadline_ms,
            self._policy.max_claimed_bytes,
            _CLAIM_SOURCES,
            _OUTDATE_SOURCES,
            self._policy.retention_ms,
        ]
        for request in requests:
            arguments += (request.agent_id, request.epoch, request.max_commands, request.lease_id, request.max_control)
        now_ms, *replies = await self._functions.call("claim", arguments, len(requests))
        return [
            Claim(
                request.agent_id,
                request.epoch,
                request.lease_id,
                now_ms,
                reply[0] != b"ok",
                [ClaimedCommand(reply[i].decode(), reply[i + 1], reply[i + 2]) for i in range(2, len(reply), 3)],
                reply[1] if len(reply) > 1 else 0,
            )
            for request, reply in zip(requests, replies, strict=True)
        ]

    async def progress(self, items: Sequence[Progress]) -> list[bool]:
        return await self._progress.submit(items)

    async def _send_progress(self, items: list[Progress]) -> list[bool]:
        arguments: list[Argument] = [*self._head, self._policy.run_limit_slack_ms, _FINISH_SOURCES]
        for item in items:
            arguments += (item.command_id, item.agent_id, item.lease_id, *_receipts(item))
        return [outcome == b"ok" for outcome in await self._functions.call("progress", arguments, len(items))]

    async def finish(self, completions: Sequence[Completion]) -> list[CompletionOutcome]:
        return await self._completions.submit(completions)

    async def _send_completions(self, completions: list[Completion]) -> list[CompletionOutcome]:
        arguments: list[Argument] = [
            *self._head,
            self._policy.retention_ms,
            _FINISH_SOURCES,
            _SETTLE_SOURCES,
        ]
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
                "1" if completion.ran else "",
            )
        return [
            _COMPLETION_OUTCOMES[outcome]
            for outcome in await self._functions.call("finish", arguments, len(completions))
        ]

    async def release(self, releases: Sequence[Release]) -> list[CommandStatus | None]:
        return await self._releases.submit(releases)

    async def _send_releases(self, releases: list[Release]) -> list[CommandStatus | None]:
        policy = self._policy
        arguments: list[Argument] = [*self._head, policy.delivery_attempts, policy.retention_ms, _RELEASE_SOURCES]
        for item in releases:
            arguments += (
                item.command_id,
                item.agent_id,
                item.lease_id,
                item.delay_ms,
                item.reason.code,
                item.reason.message,
                "1" if item.counts else "0",
            )
        reply = await self._functions.call("release", arguments, len(releases))
        return [None if outcome == b"gone" else CommandStatus(outcome.decode()) for outcome in reply]

    async def cancel(self, command_id: str, message: str) -> CommandState | None:
        arguments: list[Argument] = [
            *self._head,
            self._policy.retention_ms,
            _CANCEL_SOURCES,
            _FINISH_SOURCES,
            command_id,
            message,
        ]
        (row,) = await self._functions.call("cancel", arguments)
        return rows.command_state(command_id, rows.text_row(row)) if row else None

    async def due(
        self, delays_ms: Sequence[int], limit: int = MAX_ITEMS_PER_CALL
    ) -> tuple[int | None, list[DueCommand]]:
        policy = self._policy
        arguments: list[Argument] = [
            *self._head,
            limit,
            policy.delivery_attempts,
            policy.retention_ms,
            policy.offline_after_ms,
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
            "forget", [limit, limit, after_agent_id, _TERMINAL_STATES]
        )
        return commands + agents, next_after.decode()


def _states(operation: Operation) -> str:
    return ",".join(sources(operation))


_CLAIM_SOURCES: Final = _states(Operation.CLAIM)
_RELEASE_SOURCES: Final = _states(Operation.RELEASE)
_FINISH_SOURCES: Final = _states(Operation.FINISH)
_SETTLE_SOURCES: Final = _states(Operation.SETTLE)
_OUTDATE_SOURCES: Final = _states(Operation.OUTDATE)
_CANCEL_SOURCES: Final = _states(Operation.CANCEL)
_EXPIRE_SOURCES: Final = _states(Operation.EXPIRE)
_TERMINAL_STATES: Final = ",".join(status for status in CommandStatus if status in TERMINAL)
_QUEUE_OUTCOMES: Final = {outcome.value.encode(): outcome for outcome in QueueOutcome}
_COMPLETION_OUTCOMES: Final = {outcome.value.encode(): outcome for outcome in CompletionOutcome}


def _receipts(item: Progress) -> tuple[Argument, Argument, Argument]:
    sent, acknowledged, started = item.sent_after_ms, item.acknowledged_after_ms, item.started_after_ms
    return (
        "" if sent is None else sent,
        "" if acknowledged is None else acknowledged,
        "" if started is None else started,
    )
