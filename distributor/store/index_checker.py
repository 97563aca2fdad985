"""Checks everything that is stored, in bounded steps, and repairs what does not fit together."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final, NamedTuple

from distributor.model.lifecycle import TERMINAL, CommandStatus
from distributor.model.repair import Repair, RepairKind
from distributor.store import keys
from distributor.store.connections import Reads
from distributor.store.functions import Functions, repairs_of
from distributor.store.policy import StorePolicy
from distributor.store.valkey_connection import Argument

SCANNED_AT_ONCE: Final = 200
KEYS_AT_ONCE: Final = 150
"""Keys per call of `inspect_keys`: about 0.7 ms of Valkey's time."""
ENTRIES_AT_ONCE: Final = 200
"""Entries per call of `inspect_index`: about 0.4 ms of Valkey's time."""
CHECKED_AT_ONCE: Final = 30
"""Suspects per call of `check_indexes`: half a millisecond of Valkey's time."""
TURN_MS: Final = 60_000
"""How long a replica that stopped in the middle of a sweep keeps others from sweeping."""
RENEWAL_SECONDS: Final = 5.0
"""Time between renewals of the turn during a sweep."""
DEFAULT_QUEUE_TTL_MS: Final = 86_400_000
"""Of a queued command that has lost its own."""


class Found(NamedTuple):
    """A suspect: where an id was found, in which key, and the agent that the key names, '' if none."""

    where: str
    key: str
    subject: str
    agent_id: str = ""


class Index(NamedTuple):
    """An index to check: its name in `keys`, its key, and the agent, status or principal in that, '' if none."""

    name: str
    key: str
    of: str = ""


class ValkeyIndexChecker:
    """The IndexChecker port on Valkey. One sweep at a time; several replicas take turns.

    `inspect_keys` and `inspect_index` read little and return suspects, usually none. `check_indexes` decides about
    these in one step, by all that is stored of them, and repairs.
    """

    def __init__(self, connection: Reads, functions: Functions, replica: str, policy: StorePolicy) -> None:
        self._connection = connection
        self._functions = functions
        self._names = functions.names
        self._replica = replica
        self._header: list[Argument] = [
            policy.retention_ms,
            policy.ack_deadline_ms,
            policy.run_limit_slack_ms,
            DEFAULT_QUEUE_TTL_MS,
        ]
        self._renewal = 0.0

    async def take_turn(self, rest_ms: int) -> bool:
        """Whether this replica is to sweep: no other does, or has ended a sweep within the last `rest_ms`."""
        key = self._names(keys.INDEX_CHECK)
        taken = await self._connection.call("SET", key, self._replica, "NX", "PX", TURN_MS)
        if taken is not None:
            return True
        (holder, age_left) = await self._connection.calls([("GET", key), ("PTTL", key)])
        if holder != _DONE or int(age_left) > _REST_KEPT_MS - max(0, rest_ms):
            return False
        # Another replica may have seen the same.
        before = await self._connection.call("SET", key, self._replica, "XX", "GET", "PX", TURN_MS)
        return bool(before == _DONE)

    async def sweep(self) -> AsyncIterator[Sequence[Repair]]:
        """Check everything; yield the repairs of each step. Raises the errors of CommandStore."""
        indexes = {Index("deadlines", self._names(keys.DEADLINES))}
        indexes |= {Index("by_status", self._by_status(status), status) for status in CommandStatus}
        cursor = _START
        while cursor != _END:
            await self._renew_turn()
            cursor, suspects, found = await self.inspect_keys(cursor)
            indexes.update(found)
            yield await self._check(suspects)
        wrong: set[str] = set()
        for index in sorted(indexes):
            cursor = _START
            while cursor != _END:
                await self._renew_turn()
                cursor, suspects = await self.inspect_index(index, cursor)
                repairs = await self._check(suspects)
                wrong |= {repair.subject for repair in repairs if repair.kind is RepairKind.WRONG_TYPE}
                yield repairs
        if await self._connection.call("TYPE", self._names(keys.ENDED)) not in (b"none", b"list"):
            yield [Repair(RepairKind.WRONG_TYPE, self._names(keys.ENDED))]
        elif not wrong & {self._by_status(status) for status in TERMINAL}:
            yield await self._list_ended()
        await self._connection.call("SET", self._names(keys.INDEX_CHECK), _DONE, "PX", _REST_KEPT_MS)

    async def inspect_keys(self, cursor: Argument) -> tuple[Argument, list[Found], list[Index]]:
        """Look at a page of all keys: the cursor of the next, suspects, and indexes."""
        arguments = [cursor, KEYS_AT_ONCE]
        following, suspects, indexes = await self._functions.read("inspect_keys", arguments, self._connection)
        return following, _suspects(suspects), [Index(*[_text(part) for part in index]) for index in indexes]

    async def inspect_index(self, index: Index, cursor: Argument) -> tuple[Argument, list[Found]]:
        """Look at a page of an index: the cursor of the next, and suspects."""
        arguments = [*index, cursor, ENTRIES_AT_ONCE]
        following, suspects = await self._functions.read("inspect_index", arguments, self._connection)
        return following, _suspects(suspects)

    async def _renew_turn(self) -> None:
        if time.monotonic() >= self._renewal:
            self._renewal = time.monotonic() + RENEWAL_SECONDS
            await self._connection.call("PEXPIRE", self._names(keys.INDEX_CHECK), TURN_MS)

    async def _check(self, suspects: Sequence[Found]) -> list[Repair]:
        wrong = [Repair(RepairKind.WRONG_TYPE, found.key) for found in suspects if found.where == "wrong_type"]
        return wrong + await self.check(found for found in suspects if found.where != "wrong_type")

    async def check(self, items: Iterable[Found]) -> list[Repair]:
        """Check suspects, and return what was repaired."""
        repairs: list[Repair] = []
        waiting = list(items)
        for first in range(0, len(waiting), CHECKED_AT_ONCE):
            batch = waiting[first : first + CHECKED_AT_ONCE]
            arguments: list[Argument] = [*self._header, *(part for item in batch for part in item)]
            repairs += repairs_of(await self._functions.call("check_indexes", arguments, len(batch)))
        return repairs

    async def _list_ended(self) -> list[Repair]:
        """List ended commands that are to be forgotten some day and would not be. Usually, counts show that none is."""
        ended = self._names(keys.ENDED)
        terminal = [self._by_status(status) for status in CommandStatus if status in TERMINAL]
        # Listed in the same step in which they end: what ends between these reads makes the list longer.
        *counts, listed = await self._connection.calls([*(("ZCARD", key) for key in terminal), ("LLEN", ended)])
        if listed >= sum(counts):
            return []
        known = await self._ended_ids()
        missing: list[str] = []
        for key in terminal:
            async for ids in self._members(key):
                missing += [command_id for command_id in ids if command_id not in known]
        return await self.check([Found("ended", ended, command_id) for command_id in await self._by_end(missing)])

    def _by_status(self, status: CommandStatus) -> str:
        return self._names(keys.BY_STATUS, status=status)

    async def _members(self, key: str) -> AsyncIterator[list[str]]:
        cursor = _START
        while cursor != _END:
            await self._renew_turn()
            cursor, found = await self._connection.call("ZSCAN", key, cursor, "COUNT", SCANNED_AT_ONCE)
            yield [_text(member) for member in found[::2]]

    async def _ended_ids(self) -> set[str]:
        """All that are listed. Read from the end, since commands are forgotten at the beginning."""
        known: set[str] = set()
        last = -1
        while True:
            first = last - SCANNED_AT_ONCE + 1
            found = await self._connection.call("LRANGE", self._names(keys.ENDED), first, last)
            known.update(_text(command_id) for command_id in found)
            if len(found) < SCANNED_AT_ONCE:
                return known
            last = first - 1

    async def _by_end(self, command_ids: Sequence[str]) -> list[str]:
        """Sort by the time at which they ended; leave out those that have ended since the list was read."""
        times: list[tuple[int, str]] = []
        for first in range(0, len(command_ids), SCANNED_AT_ONCE):
            some = command_ids[first : first + SCANNED_AT_ONCE]
            found = await self._connection.calls(
                [("HGET", self._names.of_command(keys.STATUS, command_id), "finished_ms") for command_id in some]
            )
            times += [(int(time or 0), command_id) for time, command_id in zip(found, some, strict=True)]
        recent = await self._recently_ended()
        return [command_id for _, command_id in sorted(times) if command_id not in recent]

    async def _recently_ended(self) -> set[str]:
        found = await self._connection.call("LRANGE", self._names(keys.ENDED), -25 * SCANNED_AT_ONCE, -1)
        return {_text(command_id) for command_id in found}


_START: Final[Argument] = "0"
_END: Final = b"0"
"""What a cursor is after the last page."""
_DONE: Final = b"done"
_REST_KEPT_MS: Final = 31 * 86_400_000
"""How long to remember a sweep: longer than any `cleanup_interval`."""


def _text(part: bytes) -> str:
    return part.decode(errors="replace")


def _suspects(reply: Sequence[bytes]) -> list[Found]:
    texts = [_text(part) for part in reply]
    return [Found(*texts[first : first + len(Found._fields)]) for first in range(0, len(texts), len(Found._fields))]
