"""Agent sessions in Valkey: which replica an agent is attached to, and what it holds."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Sequence
from typing import Any, Final

from distributor.errors import AlreadyExists, Unavailable
from distributor.model.agent import AdoptedCommand, AgentHello, Attached, Renewal
from distributor.model.emergency_stop import EmergencyStop
from distributor.model.lifecycle import Operation, sources
from distributor.store import rows
from distributor.store.exchanges import Exchanges
from distributor.store.functions import Functions
from distributor.store.policy import StorePolicy
from distributor.store.stop_store import stored_stop
from distributor.store.valkey_connection import Argument

MAX_SESSIONS_PER_MINUTE: Final = 30
"""An agent that attaches more often is refused until the minute has passed."""


class ValkeySessionStore:
    """The SessionStore port on Valkey. Safe for concurrent use on one event loop."""

    def __init__(self, functions: Functions, exchanges: Exchanges, policy: StorePolicy) -> None:
        self._functions = functions
        self._policy = policy
        self._heartbeats = exchanges.queue("heartbeat", self._heartbeat_arguments, _outcomes)
        self._detaches = exchanges.queue("detach", _flat, _outcomes)

    async def attach(self, hello: AgentHello, unanswering_epoch: int | None = None) -> Attached:
        policy = self._policy
        arguments: list[Argument] = [
            hello.agent_id,
            hello.instance_id,
            hello.capacity,
            ",".join(hello.types),
            json.dumps(dict(hello.labels)),
            hello.version,
            policy.offline_after_ms,
            policy.session_ttl_ms,
            policy.late_after_ms,
            policy.run_limit_slack_ms,
            policy.delivery_attempts,
            policy.retention_ms,
            ",".join(sources(Operation.ADOPT)),
            ",".join(sources(Operation.RELEASE)),
            hello.journal_id,
            hello.peer,
            "" if unanswering_epoch is None else unanswering_epoch,
            MAX_SESSIONS_PER_MINUTE,
            hello.orphan_after_ms,
            "1" if hello.knows_halts else "",
        ]
        for held in hello.held:
            arguments += (held.command_id, held.lease_id)
        outcome, *rest = await self._functions.call("attach", arguments)
        if outcome == b"taken":
            age_ms, live_epoch, seen_ms, peer = rest
            raise AlreadyExists(
                f"another live instance is connected as agent '{hello.agent_id}'"
                f"{f' from {peer.decode()}' if peer else ''}, last seen {age_ms / 1000:.1f} s ago",
                reason="AGENT_ID_TAKEN",
                field="hello.agent_id",
                metadata={"epoch": live_epoch.decode(), "last_seen_ms": seen_ms.decode()},
                retry_after_seconds=(policy.offline_after_ms - age_ms) / 1000,
            )
        if outcome == b"flapping":
            raise Unavailable(
                f"agent '{hello.agent_id}' has attached {MAX_SESSIONS_PER_MINUTE} times within a minute, the limit; "
                "two instances may supersede each other",
                reason="FLAPPING",
                retry_after_seconds=max(1.0, rest[0] / 1000),
            )
        epoch, now_ms, earlier_journal, stop, *verdicts = rest
        settled = list(zip(hello.held, verdicts, strict=True))
        adopted = {
            held.command_id: _adopted(held.command_id, held.lease_id, _texts(verdict))
            for held, verdict in settled
            if isinstance(verdict, list)
        }
        counted = frozenset(held.command_id for held, verdict in settled if verdict == b"counted")
        ended = frozenset(held.command_id for held, verdict in settled if verdict == b"ended")
        return Attached(epoch, now_ms, adopted, counted, ended, earlier_journal.decode(), _stop(stop))

    def heartbeat(self, renewals: Sequence[Renewal]) -> Awaitable[list[bool]]:
        return self._heartbeats.submit(renewals)

    def detach(self, sessions: Sequence[tuple[str, int]]) -> Awaitable[list[bool]]:
        return self._detaches.submit(sessions)

    def _heartbeat_arguments(self, renewals: list[Renewal]) -> list[Argument]:
        return [self._policy.session_ttl_ms, *(part for renewal in renewals for part in _heartbeat(renewal))]


def _heartbeat(renewal: Renewal) -> tuple[Argument, ...]:
    vitals = rows.vitals_text(renewal.vitals) if renewal.vitals is not None else ""
    silences = renewal.silences
    # "," if none is silent any more, as "" means no change.
    silent = "" if silences is None else "".join(f"{id}={ms}," for id, ms in silences.items()) or ","
    return renewal.agent_id, renewal.epoch, vitals, silent


def _outcomes(sessions: list[Any], reply: Any) -> list[bool]:
    return [bool(outcome) for outcome in reply]


def _adopted(command_id: str, lease_id: str, verdict: list[str]) -> AdoptedCommand:
    attempt, assigned, sent, acknowledged, started, output_bytes, cancel, message, control, revision, slots = verdict
    assigned_ms = int(assigned)

    def after(receipt: str) -> int | None:
        return int(receipt) - assigned_ms if receipt else None

    return AdoptedCommand(
        command_id,
        lease_id,
        int(attempt),
        assigned_ms,
        after(sent),
        after(acknowledged),
        after(started),
        int(output_bytes),
        message if cancel else None,
        bool(control),
        int(revision),
        int(slots or 1),
    )


def _stop(stop: Sequence[bytes]) -> EmergencyStop | None:
    return stored_stop(stop[0].decode(errors="replace"), stop[1]) if stop else None


def _texts(values: Sequence[bytes | int]) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _flat(sessions: Sequence[tuple[str, int]]) -> list[Argument]:
    return [part for session in sessions for part in session]
