"""Emergency stops in Valkey, and what agents report of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any, Final

from distributor.errors import FailedPrecondition
from distributor.model.emergency_stop import EMERGENCY_STOP, MAX_STOPS, EmergencyStop
from distributor.model.halt import HaltedSession, HaltReport, SessionHalt, StillRunning
from distributor.model.lifecycle import Operation, sources
from distributor.model.stop_scope import StopScope
from distributor.observability.logging import get_logger
from distributor.store import keys, rows
from distributor.store.connections import Reads
from distributor.store.exchanges import Exchanges
from distributor.store.functions import Functions
from distributor.store.valkey_connection import Argument

logger = get_logger()

AGENTS_AT_ONCE: Final = 500
"""Agents in one read."""
STOPPED_AT_ONCE: Final = 20
"""Agents in one call of `stop_commands`, each with up to 1,000 commands."""
_FINISH_SOURCES: Final = ",".join(sources(Operation.FINISH))
_FIELDS: Final = (
    "epoch",
    "connected",
    "last_seen_ms",
    "away_since_ms",
    "labels",
    "knows_halts",
    "halted",
    "orphaned_after_ms",
)


class ValkeyStopStore:
    """The StopStore port on Valkey. Safe for concurrent use on one event loop."""

    def __init__(self, connection: Reads, functions: Functions, exchanges: Exchanges, offline_after_ms: int) -> None:
        self._connection = connection
        self._functions = functions
        self._names = functions.names
        self._halted = exchanges.queue("halted", _flat, _outcomes)
        self._offline_after_ms = offline_after_ms

    async def stop(self, stop_id: str, scope: StopScope, reason: str, stopped_by: str) -> EmergencyStop:
        arguments: list[Argument] = [stop_id, json.dumps(_document(scope)), reason, stopped_by, MAX_STOPS]
        outcome, *stop = await self._functions.call("stop", arguments)
        if outcome != b"ok":
            raise FailedPrecondition(
                f"{MAX_STOPS} emergency stops are in force, the limit; resume one first", reason="TOO_MANY_STOPS"
            )
        return stored_stop(stop_id, stop[0])

    async def resume(self, stop_ids: Sequence[str]) -> list[EmergencyStop]:
        ended = await self._functions.call("resume", list(stop_ids), len(stop_ids))
        return [stored_stop(stop_id, text) for stop_id, text in zip(stop_ids, ended, strict=True) if text]

    async def stops(self) -> list[EmergencyStop]:
        found = await self._connection.call("HGETALL", self._names(keys.STOPS))
        stops = [
            stored_stop(stop_id.decode(errors="replace"), text)
            for stop_id, text in zip(found[::2], found[1::2], strict=True)
        ]
        return sorted(stops, key=lambda stop: (stop.since_ms, stop.stop_id))

    async def stop_commands(self, agents: Sequence[tuple[str, str]]) -> list[int]:
        counts: list[int] = []
        for first in range(0, len(agents), STOPPED_AT_ONCE):
            some = agents[first : first + STOPPED_AT_ONCE]
            arguments: list[Argument] = [_FINISH_SOURCES, EMERGENCY_STOP, *(part for agent in some for part in agent)]
            counts += await self._functions.call("stop_commands", arguments, len(some))
        return counts

    def halted(self, reports: Sequence[SessionHalt]) -> Awaitable[list[bool]]:
        return self._halted.submit(reports)

    async def sessions(self, scope: StopScope) -> AsyncIterator[list[HaltedSession]]:
        known: set[str] = set()
        after = "-"
        while True:
            found = await self._connection.call(
                "ZRANGE", self._names(keys.AGENTS), after, "+", "BYLEX", "LIMIT", 0, AGENTS_AT_ONCE
            )
            agent_ids = [agent_id.decode() for agent_id in found]
            sessions = await self._read(agent_ids, scope)
            known.update(session.agent_id for session in sessions)
            yield sessions
            if len(agent_ids) < AGENTS_AT_ONCE:
                break
            after = f"({agent_ids[-1]}"
        yield [_unknown(agent_id) for agent_id in scope.named_agents if agent_id not in known]

    async def sessions_of(self, agent_ids: Sequence[str]) -> list[HaltedSession]:
        return await self._read(agent_ids, StopScope(all=True))

    async def _read(self, agent_ids: Sequence[str], scope: StopScope) -> list[HaltedSession]:
        calls: list[tuple[Argument, ...]] = [("TIME",)]
        for agent_id in agent_ids:
            calls += [
                ("HMGET", self._names(keys.SESSION, agent_id=agent_id), *_FIELDS),
                ("SCARD", self._names(keys.ASSIGNED, agent_id=agent_id)),
            ]
        (seconds, microseconds), *replies = await self._connection.calls(calls)
        now_ms = int(seconds) * 1000 + int(microseconds) // 1000
        found = []
        for agent_id, row, assigned in zip(agent_ids, replies[::2], replies[1::2], strict=True):
            fields = rows.text_row(row)
            if scope.matches(agent_id, json.loads(fields[4] or "{}")):
                found.append(self._session(agent_id, fields, assigned, now_ms))
        return found

    def _session(self, agent_id: str, fields: Sequence[str], assigned: int, now_ms: int) -> HaltedSession:
        epoch, connected, last_seen_ms, away_since_ms, _, knows_halts, halted, orphaned_after_ms = fields
        seen_ms = int(last_seen_ms or 0)
        return HaltedSession(
            agent_id,
            known=bool(epoch),
            present=connected == "1" and now_ms - seen_ms < self._offline_after_ms,
            knows_halts=knows_halts == "1",
            report=_report(halted),
            assigned=assigned,
            away_since_ms=int(away_since_ms or seen_ms),
            orphan_ms=seen_ms + int(orphaned_after_ms) if orphaned_after_ms else 0,
        )


def stored_stop(stop_id: str, text: bytes) -> EmergencyStop:
    """Parse a stop. One that cannot be read is for all agents, as for the functions."""
    try:
        document = json.loads(text)
        scope = document["scope"]
        return EmergencyStop(
            stop_id,
            StopScope(scope.get("all") is True, tuple(scope.get("selectors", ()))),
            document["reason"],
            document["stopped_by"],
            document["since_ms"],
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        logger.error("an emergency stop cannot be read; it is for all agents", stop_id=stop_id)
        return EmergencyStop(stop_id, StopScope(all=True), "it cannot be read", "unknown", 0)


def _flat(reports: Sequence[SessionHalt]) -> list[Argument]:
    return [part for agent_id, epoch, report in reports for part in (agent_id, epoch, _text(report))]


def _text(report: HaltReport | None) -> str:
    return json.dumps(report, separators=(",", ":")) if report is not None else ""


def _outcomes(reports: list[SessionHalt], reply: Any) -> list[bool]:
    return [bool(outcome) for outcome in reply]


def _document(scope: StopScope) -> dict[str, Any]:
    return {"all": True} if scope.all else {"selectors": scope.selectors}


def _report(text: str) -> HaltReport | None:
    if not text:
        return None
    stop_id, since_ms, running = json.loads(text)
    return HaltReport(stop_id, since_ms, tuple(StillRunning(*one) for one in running))


def _unknown(agent_id: str) -> HaltedSession:
    return HaltedSession(agent_id, known=False, present=False, knows_halts=False, report=None, assigned=0)
