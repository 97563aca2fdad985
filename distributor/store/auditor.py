"""Checks everything that is stored, in bounded steps, and repairs what does not fit together."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final, NamedTuple

from distributor.model.lifecycle import TERMINAL, CommandStatus
from distributor.model.repair import Repair, RepairKind
from distributor.store import keys
from distributor.store.functions import Functions, repairs_of
from distributor.store.policy import StorePolicy
from distributor.store.valkey_connection import Argument, ValkeyConnection

SCANNED_AT_ONCE: Final = 200
CHECKED_AT_ONCE: Final = 30
"""Commands per call of the function: half a millisecond of Valkey's time."""
TURN_MS: Final = 60_000
"""How long a replica that stopped in the middle of a sweep keeps others from sweeping."""
DEFAULT_QUEUE_TTL_MS: Final = 86_400_000
"""Of a queued command that has lost its own."""


class Found(NamedTuple):
    """Something to check: where an id was found, in which key, and the agent that the key names, '' if none."""

    where: str
    key: str
    subject: str
    agent_id: str = ""


class ValkeyAuditor:
    """The Auditor port on Valkey. One sweep at a time; several replicas take turns."""

    def __init__(self, connection: ValkeyConnection, functions: Functions, replica: str, policy: StorePolicy) -> None:
        self._connection = connection
        self._functions = functions
        self._replica = replica
        self._header: list[Argument] = [
            policy.retention_ms,
            policy.ack_deadline_ms,
            policy.run_limit_slack_ms,
            DEFAULT_QUEUE_TTL_MS,
        ]

    async def take_turn(self, rest_ms: int) -> bool:
        """Whether this replica is to sweep: no other does, or has ended a sweep within the last `rest_ms`."""
        key = keys.in_shard(keys.AUDIT)
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
        indexes: dict[str, Found] = {}
        async for names in self._scan("SCAN"):
            items = []
            for name in names:
                item = _found_key(name.decode(errors="replace"))
                if item is not None and item.where in _INDEX_TYPES:
                    indexes[item.key] = item
                elif item is not None:
                    items.append(item)
            items, repairs = await self._of_their_types(items)
            yield repairs + await self.check(items)
        for status in CommandStatus:
            key = keys.in_shard(keys.BY_STATUS).format(status=status)
            indexes[key] = Found("zset", key, "")
        indexes[keys.in_shard(keys.DEADLINES)] = Found("zset", keys.in_shard(keys.DEADLINES), "")
        readable, repairs = await self._of_their_types(
            [*indexes.values(), Found("ended", keys.in_shard(keys.ENDED), "")]
        )
        yield repairs
        for index in readable:
            if index.where in _INDEX_TYPES:
                async for ids in self._members(index):
                    yield await self.check(index._replace(subject=member) for member in ids)
        if not {repair.subject for repair in repairs} & _shared_keys():
            yield await self._list_ended()
        await self._connection.call("SET", keys.in_shard(keys.AUDIT), _DONE, "PX", _REST_KEPT_MS)

    async def _of_their_types(self, found: Sequence[Found]) -> tuple[list[Found], list[Repair]]:
        """What can be checked, as its key is of the type that it must have, and reports of the rest."""
        right: list[Found] = []
        wrong: list[Repair] = []
        for first in range(0, len(found), SCANNED_AT_ONCE):
            some = found[first : first + SCANNED_AT_ONCE]
            types = await self._connection.calls([("TYPE", item.key) for item in some])
            for item, name in zip(some, types, strict=True):
                if name in (b"none", _key_type(item)):
                    right.append(item)
                else:
                    wrong.append(Repair(RepairKind.WRONG_TYPE, item.key))
        return right, wrong

    async def _members(self, index: Found) -> AsyncIterator[list[str]]:
        command, step = _INDEX_TYPES[index.where]
        async for found in self._scan(command, index.key):
            yield [member.decode(errors="replace") for member in found[::step]]

    async def _scan(self, command: str, *key: str) -> AsyncIterator[Sequence[bytes]]:
        cursor: bytes | str = "0"
        while True:
            # Renews the turn.
            _, (cursor, found) = await self._connection.calls(
                [
                    ("PEXPIRE", keys.in_shard(keys.AUDIT), TURN_MS),
                    (command, *key, cursor, "COUNT", SCANNED_AT_ONCE),
                ]
            )
            yield found
            if cursor == b"0":
                return

    async def check(self, items: Iterable[Found]) -> list[Repair]:
        """Check what was found, and return what was repaired."""
        repairs: list[Repair] = []
        waiting = list(items)
        for first in range(0, len(waiting), CHECKED_AT_ONCE):
            batch = waiting[first : first + CHECKED_AT_ONCE]
            arguments: list[Argument] = [*self._header, *(part for item in batch for part in item)]
            repairs += repairs_of(await self._functions.call("audit", arguments, len(batch)))
        return repairs

    async def _list_ended(self) -> list[Repair]:
        """List ended commands that are to be forgotten some day and would not be. Usually, counts show that none is."""
        ended, by_status = keys.in_shard(keys.ENDED), keys.in_shard(keys.BY_STATUS)
        terminal = [by_status.format(status=status) for status in CommandStatus if status in TERMINAL]
        # Listed in the same step in which they end: what ends between these reads makes the list longer.
        *counts, listed = await self._connection.calls([*(("ZCARD", key) for key in terminal), ("LLEN", ended)])
        if listed >= sum(counts):
            return []
        known = await self._ended_ids()
        missing: list[str] = []
        for key in terminal:
            async for ids in self._members(Found("zset", key, "")):
                missing += [command_id for command_id in ids if command_id not in known]
        return await self.check([Found("ended", ended, command_id) for command_id in await self._by_end(missing)])

    async def _ended_ids(self) -> set[str]:
        """All that are listed. Read from the end, since commands are forgotten at the beginning."""
        known: set[str] = set()
        last = -1
        while True:
            first = last - SCANNED_AT_ONCE + 1
            found = await self._connection.call("LRANGE", keys.in_shard(keys.ENDED), first, last)
            known.update(command_id.decode(errors="replace") for command_id in found)
            if len(found) < SCANNED_AT_ONCE:
                return known
            last = first - 1

    async def _by_end(self, command_ids: Sequence[str]) -> list[str]:
        """Sort by the time at which they ended; leave out those that have ended since the list was read."""
        times: list[tuple[int, str]] = []
        for first in range(0, len(command_ids), SCANNED_AT_ONCE):
            some = command_ids[first : first + SCANNED_AT_ONCE]
            found = await self._connection.calls(
                [("HGET", keys.STATUS.format(command_id=command_id), "finished_ms") for command_id in some]
            )
            times += [(int(time or 0), command_id) for time, command_id in zip(found, some, strict=True)]
        recent = await self._recently_ended()
        return [command_id for _, command_id in sorted(times) if command_id not in recent]

    async def _recently_ended(self) -> set[str]:
        found = await self._connection.call("LRANGE", keys.in_shard(keys.ENDED), -25 * SCANNED_AT_ONCE, -1)
        return {command_id.decode(errors="replace") for command_id in found}


_DONE: Final = b"done"
_REST_KEPT_MS: Final = 31 * 86_400_000
"""How long to remember a sweep: longer than any `cleanup_interval`."""
_INDEX_TYPES: Final = {"zset": ("ZSCAN", 2), "set": ("SSCAN", 1)}
"""How to read an index, and how many elements each member has in the reply."""


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^:]+)", re.escape(template)))


_RECORD: Final = _pattern(keys.STATUS)
_OUTPUT: Final = _pattern(keys.OUTPUT)
_OTHERS: Final = (
    ("key", _pattern(keys.COMMAND)),
    ("key", _OUTPUT),
    ("key", _pattern(keys.AGENT_COMMAND)),
    ("zset", _pattern(keys.in_shard(keys.READY))),
    ("zset", _pattern(keys.in_shard(keys.CONTROL))),
    ("zset", _pattern(keys.in_shard(keys.AGENT_COMMANDS))),
    ("set", _pattern(keys.in_shard(keys.DELAYED))),
    ("set", _pattern(keys.in_shard(keys.ASSIGNED))),
    ("session", _pattern(keys.in_shard(keys.SESSION))),
)


def _found_key(key: str) -> Found | None:
    """What a key is to be checked for; None if it has a TTL of its own or is an index that all agents share."""
    record = _RECORD.fullmatch(key)
    if record is not None:
        return Found("record", key, record["command_id"])
    for where, pattern in _OTHERS:
        found = pattern.fullmatch(key)
        if found is not None:
            parts = found.groupdict()
            agent_id = parts.get("agent_id", "")
            return Found(where, key, parts.get("command_id", agent_id), agent_id)
    return None


def _key_type(found: Found) -> bytes:
    if found.where in ("record", "session"):
        return b"hash"
    if found.where == "ended" or _OUTPUT.fullmatch(found.key) is not None:
        return b"list"
    return b"string" if found.where == "key" else found.where.encode()


def _shared_keys() -> set[str]:
    """The list of ended commands, and the indexes that it must agree with."""
    by_status = keys.in_shard(keys.BY_STATUS)
    return {keys.in_shard(keys.ENDED), *(by_status.format(status=status) for status in TERMINAL)}
