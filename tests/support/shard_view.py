"""Lets tests name what a shard has as if it were the only one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from distributor.store import keys
from distributor.store.connections import Reads
from distributor.store.valkey_connection import Argument

OF_A_COMMAND: Final = (
    keys.COMMAND,
    keys.STATUS,
    keys.AGENT_COMMAND,
    keys.RESULT,
    keys.LATE_RESULT,
    keys.OUTPUT,
)
OTHERS: Final = [
    value
    for name, value in vars(keys).items()
    if name.isupper() and isinstance(value, str) and not name.startswith("_") and value and value not in OF_A_COMMAND
]


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+)", re.escape(template)))


_COMMAND_PATTERNS: Final = [(template, _pattern(template)) for template in OF_A_COMMAND]
_OTHER_PATTERNS: Final = [_pattern(template) for template in OTHERS]


def to_shard(name: str, shard: str) -> str:
    """The name in the shard of what would have this name without shards; other texts as they are."""
    for template, pattern in _COMMAND_PATTERNS:
        found = pattern.fullmatch(name)
        if found is not None:
            parts = found.groupdict()
            return keys.of_command(template, parts.pop("command_id"), shard, **parts)
    return shard + name if any(pattern.fullmatch(name) for pattern in _OTHER_PATTERNS) else name


def from_shard(name: str, shard: str) -> str:
    """The name that it would have without shards."""
    return name.removeprefix(shard).replace(f":{shard}.", ":")


class ShardView:
    """A connection with the names of one shard."""

    def __init__(self, connection: Reads, shard: str) -> None:
        self._connection = connection
        self._shard = shard

    async def call(self, *arguments: Argument) -> Any:
        """Send one command."""
        if arguments[0] == "KEYS":
            names = await self._connection.call("KEYS", "*" + str(arguments[1]))
            return [from_shard(name.decode(), self._shard).encode() for name in names]
        return await self._connection.call(*self._named(arguments))

    @property
    def shown_url(self) -> str:
        """What to show of the address."""
        return self._connection.shown_url

    async def close(self) -> None:
        """Nothing: others own the connection."""

    async def calls(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        """Send commands together."""
        return await self._connection.calls([self._named(command) for command in commands])

    def _named(self, arguments: tuple[Argument, ...]) -> tuple[Argument, ...]:
        return arguments[0], *(self._name(argument) for argument in arguments[1:])

    def _name(self, argument: Argument) -> Argument:
        if isinstance(argument, bytes):
            return self._text(argument)
        return to_shard(argument, self._shard) if isinstance(argument, str) else argument

    def _text(self, argument: bytes) -> Argument:
        try:
            return to_shard(argument.decode(), self._shard).encode()
        except UnicodeDecodeError:
            return argument


def view(connection: Reads, shard: str) -> Reads:
    """A connection with the names of `shard`; the same without one."""
    return ShardView(connection, shard) if shard else connection
