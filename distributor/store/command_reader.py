"""Reads commands, results and agents from Valkey."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Final

from distributor.errors import InvalidArgument
from distributor.model.agent import AgentInfo, AgentPresence
from distributor.model.command import CommandResult, CommandState
from distributor.model.lifecycle import CommandStatus
from distributor.model.listing import CommandDetails, CommandFilter, Page, QueueDepth
from distributor.store import keys, rows
from distributor.store.functions import Functions
from distributor.store.stored_form import read_command, result_work
from distributor.store.valkey_connection import Argument, ValkeyConnection
from distributor.tasks import off_loop

MAX_SCANNED_PER_PAGE: Final = 2_000
_STATUS: Final = keys.STATUS.format(command_id="*")
_BY_ASSIGNED: Final = ("BY", "nosort", "GET", f"{_STATUS}->slots", "GET", f"{_STATUS}->type")


class ValkeyCommandReader:
    """The CommandReader port on Valkey. Read-only. Safe for concurrent use on one event loop."""

    def __init__(
        self,
        connection: ValkeyConnection,
        functions: Functions,
        offline_after_ms: int,
        max_scanned_per_page: int = MAX_SCANNED_PER_PAGE,
    ) -> None:
        self._connection = connection
        self._functions = functions
        self._offline_after_ms = offline_after_ms
        self._max_scanned_per_page = max_scanned_per_page

    async def states(self, command_ids: Sequence[str]) -> list[CommandState | None]:
        if not command_ids:
            return []
        replies = await self._connection.calls(
            [("HMGET", keys.STATUS.format(command_id=command_id), *keys.ROW) for command_id in command_ids]
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
            "MGET", *(keys.RESULT.format(command_id=command_id) for command_id in command_ids)
        )
        return [await off_loop(result_work(text), rows.command_result, text) if text else None for text in texts]

    async def queued_under(self, idempotency_keys: Sequence[str]) -> list[str | None]:
        if not idempotency_keys:
            return []
        names = [keys.in_shard(keys.IDEMPOTENCY).format(key=key) for key in idempotency_keys]
        return [text.decode().split(" ")[0] if text else None for text in await self._connection.call("MGET", *names)]

    async def page(self, query: CommandFilter, cursor: str, size: int) -> Page[CommandState]:
        found, next_cursor = await self._arrivals(query, cursor, size)
        return Page([state for state, _ in found], next_cursor)

    async def listed(self, query: CommandFilter, cursor: str, size: int) -> tuple[list[tuple[CommandState, str]], str]:
        found, next_cursor = await self._arrivals(query, cursor, size)
        return [(state, _write_cursor(arrival, state.command_id, query)) for state, arrival in found], next_cursor

    async def _arrivals(
        self, query: CommandFilter, cursor: str, size: int
    ) -> tuple[list[tuple[CommandState, str]], str]:
        """Commands with their arrivals, and the cursor of the next page."""
        last_arrival, last_id = _read_cursor(cursor, query)
        arguments: list[Argument] = [
            query.agent_id,
            ",".join(query.statuses or CommandStatus),
            query.type,
            "-inf" if query.queued_after_ms is None else query.queued_after_ms * 1000,
            "+inf" if query.queued_before_ms is None else query.queued_before_ms * 1000,
            last_arrival,
            last_id,
            size,
            self._max_scanned_per_page,
        ]
        arrival, command_id, *found = await self._functions.read("list_commands", arguments)
        next_cursor = _write_cursor(arrival.decode(), command_id.decode(), query) if arrival else ""
        read = [(rows.known_state(row[-1], row), row[-2]) for row in map(rows.text_row, found)]
        return [(state, arrival) for state, arrival in read if state is not None], next_cursor

    async def presences(self, agent_ids: Sequence[str]) -> list[AgentPresence]:
        calls: list[tuple[Argument, ...]] = [("TIME",)]
        for agent_id in agent_ids:
            calls.append(
                (
                    "HMGET",
                    keys.in_shard(keys.SESSION).format(agent_id=agent_id),
                    "connected",
                    "last_seen_ms",
                    "away_since_ms",
                )
            )
        now, *found = await self._connection.calls(calls)
        return [rows.presence(row, _milliseconds(now), self._offline_after_ms) for row in found]

    async def labels(self, agent_ids: Sequence[str]) -> list[Mapping[str, str]]:
        found = await self._connection.calls(
            [("HGET", keys.in_shard(keys.SESSION).format(agent_id=agent_id), "labels") for agent_id in agent_ids]
        )
        return [json.loads(text) if text else {} for text in found]

    async def agents(self, agent_ids: Sequence[str]) -> list[AgentInfo | None]:
        calls: list[tuple[Argument, ...]] = [("TIME",)]
        for agent_id in agent_ids:
            calls += [
                ("HMGET", keys.in_shard(keys.SESSION).format(agent_id=agent_id), *rows.SESSION_FIELDS),
                # The slots and the type of each assigned command, at most as many as an agent holds.
                ("SORT_RO", keys.in_shard(keys.ASSIGNED).format(agent_id=agent_id), *_BY_ASSIGNED),
                ("ZCARD", keys.in_shard(keys.READY).format(agent_id=agent_id)),
                ("ZCARD", keys.in_shard(keys.CONTROL).format(agent_id=agent_id)),
                ("SCARD", keys.in_shard(keys.DELAYED).format(agent_id=agent_id)),
            ]
        now, *replies = await self._connection.calls(calls)
        found: list[AgentInfo | None] = []
        now_ms = _milliseconds(now)
        for place, agent_id in enumerate(agent_ids):
            row, assigned, ready, control, delayed = replies[5 * place : 5 * place + 5]
            there = rows.presence((row[1], row[7], row[8]), now_ms, self._offline_after_ms)
            running, slots_used = rows.slots_used(assigned)
            counts = rows.AgentCounts(running, slots_used, ready + control + delayed)
            found.append(rows.agent_info(agent_id, row, counts, there, now_ms))
        return found

    async def agent_ids(self, after: str, limit: int) -> list[str]:
        first = f"({after}" if after else "-"
        ids = await self._connection.call("ZRANGE", keys.in_shard(keys.AGENTS), first, "+", "BYLEX", "LIMIT", 0, limit)
        return [agent_id.decode() for agent_id in ids]

    async def depth(self) -> QueueDepth:
        by_status = keys.in_shard(keys.BY_STATUS)
        calls: list[tuple[Argument, ...]] = [("ZCARD", by_status.format(status=s)) for s in CommandStatus]
        oldest_key = by_status.format(status=CommandStatus.QUEUED)
        *counts, oldest, now = await self._connection.calls(
            [*calls, ("ZRANGE", oldest_key, 0, 0, "WITHSCORES"), ("TIME",)]
        )
        age_ms = _milliseconds(now) - int(float(oldest[1])) // 1000 if oldest else 0
        return QueueDepth(dict(zip(CommandStatus, counts, strict=True)), max(0, age_ms))


def _milliseconds(time_reply: Sequence[bytes]) -> int:
    return int(time_reply[0]) * 1000 + int(time_reply[1]) // 1000


def _write_cursor(arrival: str, command_id: str, query: CommandFilter) -> str:
    text = f"{arrival} {command_id} {_digest(query)}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _digest(query: CommandFilter) -> str:
    """Identify a query: a cursor continues only the query that it came from (AIP-158).

    Times are excluded: a request for the last two hours has slightly later times on each page.
    """
    timeless = dataclasses.replace(query, queued_after_ms=None, queued_before_ms=None)
    return f"{zlib.crc32(repr(timeless).encode()):08x}"


def _read_cursor(cursor: str, query: CommandFilter) -> tuple[str, str]:
    if not cursor:
        return "", ""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        arrival, command_id, digest = text.split(" ")
        if not arrival.isdigit() or digest != _digest(query):
            raise ValueError("not a cursor, or a cursor of another query")
    except (binascii.Error, UnicodeError, ValueError) as error:
        raise InvalidArgument(
            "page_token was not issued by a list call",
            field="page_token",
            reason="INVALID_PAGE_TOKEN",
        ) from error
    return arrival, command_id
