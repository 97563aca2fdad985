"""Reads commands, results and agents from Valkey."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from distributor.model.agent import AgentInfo, AgentPresence
from distributor.model.command import CommandResult, CommandState
from distributor.model.lifecycle import CommandStatus
from distributor.model.listing import CommandDetails, CommandFilter, Page, QueueDepth
from distributor.store import keys, rows
from distributor.store.connections import Reads
from distributor.store.functions import Functions
from distributor.store.list_cursor import Place, read_cursor, write_cursor
from distributor.store.stored_form import read_command, result_work
from distributor.store.valkey_connection import Argument
from distributor.tasks import off_loop

MAX_SCANNED_PER_PAGE: Final = 2_000
AGENTS_PER_CALL: Final = 50
"""Agents read at once: with ten commands each, about a millisecond of Valkey's time."""


class ValkeyCommandReader:
    """The CommandReader port on Valkey. Read-only. Safe for concurrent use on one event loop."""

    def __init__(
        self,
        connection: Reads,
        functions: Functions,
        offline_after_ms: int,
        max_scanned_per_page: int = MAX_SCANNED_PER_PAGE,
    ) -> None:
        self._connection = connection
        self._functions = functions
        self._names = functions.names
        self._offline_after_ms = offline_after_ms
        self._max_scanned_per_page = max_scanned_per_page

    async def states(self, command_ids: Sequence[str]) -> list[CommandState | None]:
        if not command_ids:
            return []
        replies = await self._connection.calls(
            [("HMGET", self._names.of_command(keys.STATUS, command_id), *keys.ROW) for command_id in command_ids]
        )
        return [
            rows.known_state(command_id, rows.text_row(row)) if row[3] else None
            for command_id, row in zip(command_ids, replies, strict=True)
        ]

    async def details(self, command_id: str) -> CommandDetails | None:
        reply = await self._functions.read("get_command", [command_id])
        if reply is None:
            return None
        now_ms, encoded, output_bytes, session, row, attempts, progress_ms, extended, late = reply
        state = rows.known_state(command_id, rows.text_row(row))
        if state is None:
            return None
        return CommandDetails(
            state._replace(attempts=rows.attempts(state.agent_id, attempts.decode()), progress_ms=progress_ms),
            await read_command(encoded) if encoded else None,
            output_bytes,
            rows.presence(session, now_ms, self._offline_after_ms),
            int(extended) if extended else None,
            await off_loop(result_work(late), rows.command_result, late) if late else None,
        )

    async def results(self, command_ids: Sequence[str]) -> list[CommandResult | None]:
        if not command_ids:
            return []
        texts = await self._connection.call(
            "MGET", *(self._names.of_command(keys.RESULT, command_id) for command_id in command_ids)
        )
        return [await off_loop(result_work(text), rows.command_result, text) if text else None for text in texts]

    async def queued_under(self, requests: Sequence[tuple[str, str]]) -> list[str | None]:
        if not requests:
            return []
        names = [self._names(keys.IDEMPOTENCY, key=key) for _, key in requests]
        return [text.decode().split(" ")[0] if text else None for text in await self._connection.call("MGET", *names)]

    async def page(self, query: CommandFilter, cursor: str, size: int) -> Page[CommandState]:
        found, next_cursor = await self._arrivals(query, cursor, size)
        return Page([state for state, _ in found], next_cursor)

    async def listed(self, query: CommandFilter, cursor: str, size: int) -> tuple[list[tuple[CommandState, str]], str]:
        found, next_cursor = await self._arrivals(query, cursor, size)
        return [(state, write_cursor(Place(arrival, state.command_id), query)) for state, arrival in found], next_cursor

    async def _arrivals(
        self, query: CommandFilter, cursor: str, size: int
    ) -> tuple[list[tuple[CommandState, int]], str]:
        """Commands with their arrivals, and the cursor of the next page."""
        arguments: list[Argument] = [
            query.agent_id,
            ",".join(query.statuses or CommandStatus),
            query.type,
            "-inf" if query.queued_after_ms is None else query.queued_after_ms * 1000,
            "+inf" if query.queued_before_ms is None else query.queued_before_ms * 1000,
            *read_cursor(cursor, query).arguments,
            size,
            self._max_scanned_per_page,
        ]
        arrival, command_id, *found = await self._functions.read("list_commands", arguments)
        next_cursor = write_cursor(Place(int(arrival), command_id.decode()), query) if arrival else ""
        read = [(rows.known_state(row[-1], row), int(row[-2])) for row in map(rows.text_row, found)]
        return [(state, arrival) for state, arrival in read if state is not None], next_cursor

    async def presences(self, agent_ids: Sequence[str]) -> list[AgentPresence]:
        calls: list[tuple[Argument, ...]] = [("TIME",)]
        for agent_id in agent_ids:
            calls.append(
                (
                    "HMGET",
                    self._names(keys.SESSION, agent_id=agent_id),
                    "connected",
                    "last_seen_ms",
                    "away_since_ms",
                )
            )
        now, *found = await self._connection.calls(calls)
        return [rows.presence(row, _milliseconds(now), self._offline_after_ms) for row in found]

    async def labels(self, agent_ids: Sequence[str]) -> list[Mapping[str, str]]:
        found = await self._connection.calls(
            [("HGET", self._names(keys.SESSION, agent_id=agent_id), "labels") for agent_id in agent_ids]
        )
        return [json.loads(text) if text else {} for text in found]

    async def agents(self, agent_ids: Sequence[str]) -> list[AgentInfo | None]:
        found: list[AgentInfo | None] = []
        for first in range(0, len(agent_ids), AGENTS_PER_CALL):
            found += await self._agents(agent_ids[first : first + AGENTS_PER_CALL])
        return found

    async def _agents(self, agent_ids: Sequence[str]) -> list[AgentInfo | None]:
        arguments: list[Argument] = [",".join(rows.SESSION_FIELDS), *agent_ids]
        now_ms, *replies = await self._functions.read("read_agents", arguments, self._connection)
        found: list[AgentInfo | None] = []
        for agent_id, (row, assigned, slots, queued) in zip(agent_ids, replies, strict=True):
            there = rows.presence((row[1], row[7], row[8]), now_ms, self._offline_after_ms)
            found.append(rows.agent_info(agent_id, row, rows.AgentCounts(assigned, slots, queued), there, now_ms))
        return found

    async def agent_ids(self, after: str, limit: int) -> list[str]:
        first = f"({after}" if after else "-"
        ids = await self._connection.call("ZRANGE", self._names(keys.AGENTS), first, "+", "BYLEX", "LIMIT", 0, limit)
        return [agent_id.decode() for agent_id in ids]

    async def depth(self) -> QueueDepth:
        calls: list[tuple[Argument, ...]] = [("ZCARD", self._names(keys.BY_STATUS, status=s)) for s in CommandStatus]
        oldest_key = self._names(keys.BY_STATUS, status=CommandStatus.QUEUED)
        *counts, oldest, now = await self._connection.calls(
            [*calls, ("ZRANGE", oldest_key, 0, 0, "WITHSCORES"), ("TIME",)]
        )
        age_ms = _milliseconds(now) - int(float(oldest[1])) // 1000 if oldest else 0
        return QueueDepth(dict(zip(CommandStatus, counts, strict=True)), max(0, age_ms))


def _milliseconds(time_reply: Sequence[bytes]) -> int:
    return int(time_reply[0]) * 1000 + int(time_reply[1]) // 1000
